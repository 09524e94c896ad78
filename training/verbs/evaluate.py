"""``evaluate``: scores a run's network on a folder of images."""

import argparse
from pathlib import Path

from tqdm import tqdm

from training.verbs.common import Verbs, advancing


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("evaluate", help="PSNR and SSIM on a folder of clean images")
    parser.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    parser.add_argument("--images", type=Path, required=True, help="folder of clean images; its name is the set's")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="default: 15 25 50")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.files import find_images
    from training.evaluation.measure import evaluate, load_network
    from training.run.directory import RunDir

    run_dir = RunDir(arguments.run_path)
    _, network = load_network(run_dir)
    with tqdm(total=len(find_images(arguments.images)), unit="image") as bar:
        evaluation = evaluate(
            network,
            arguments.images,
            channels=network.channels,
            sigmas=arguments.sigmas,
            on_image=advancing(bar),
        )
    path = run_dir.save_evaluation(evaluation)
    print(f"{evaluation.image_set}: {evaluation.metric}\n\n{evaluation.table()}\n\nwritten to {path}")
