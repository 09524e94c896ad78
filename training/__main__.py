"""``python -m training prepare | train | evaluate | export``: from a folder of images to a servable model."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from training.errors import TrainingError

_EXAMPLE = """\
example, from a folder of clean images to a running service:
  python -m training prepare IMAGES --to runs/pack
  python -m training train training/configs/quick.toml --data runs/pack --run runs/quick
  python -m training evaluate runs/quick --images VALIDATION_IMAGES
  python -m training export runs/quick --data runs/pack --to runs/models
  make serve MODELS=runs/models
"""


def main() -> int:
    """Exit codes: 0 done, 1 failed with a message, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Makes denoising autoencoders and exports them to ONNX.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="prepare | train | evaluate | export")

    prepare = verbs.add_parser("prepare", help="read a folder of images once, check every file, pack the pixels")
    prepare.add_argument("images", type=Path, help="folder with PNG, JPEG or WebP images, searched recursively")
    prepare.add_argument("--to", type=Path, required=True, help="folder for the packed images")
    prepare.add_argument("--channels", type=int, choices=(1, 3), default=3, help="3 colour (default), 1 grey")
    prepare.add_argument("--min-side-px", type=int, default=128, help="smaller images are left out (default 128)")
    prepare.set_defaults(run=_prepare)

    train = verbs.add_parser("train", help="train a network; continue a run that was broken off")
    train.add_argument("config", type=Path, nargs="?", help="TOML file; left out with --resume")
    train.add_argument("--data", type=Path, required=True, help="packed images, from prepare")
    train.add_argument("--run", dest="run_path", type=Path, required=True, help="directory of the run")
    train.add_argument("--resume", action="store_true", help="continue the run in this directory")
    train.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="such as optimiser.steps=500"
    )
    train.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN",
        help="begin with another run's weights; new residual blocks start as identity",
    )
    train.add_argument("--threads", type=int, help="threads of torch; its own choice when left out")
    train.set_defaults(run=_train)

    evaluate = verbs.add_parser("evaluate", help="PSNR and SSIM on a folder of clean images")
    evaluate.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    evaluate.add_argument("--images", type=Path, required=True, help="folder of clean images; its name is the set's")
    evaluate.add_argument("--sigmas", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="default: 15 25 50")
    evaluate.set_defaults(run=_evaluate)

    export = verbs.add_parser("export", help="write the ONNX file with its contract and card, after all checks")
    export.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    export.add_argument("--data", type=Path, required=True, help="packed images that it was trained on")
    export.add_argument("--to", type=Path, required=True, help="model store; the model goes to TO/<name>/<version>/")
    export.add_argument("--version", help="whole number; the next free one when left out")
    export.set_defaults(run=_export)

    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except TrainingError as error:
        print(f"{arguments.verb} failed: {error}", file=sys.stderr)
        return 1
    return 0


# Torch takes seconds to import; the verbs import what they need, so that --help is instant.


def _prepare(arguments: argparse.Namespace) -> None:
    from training.data import find_images, prepare

    with tqdm(total=len(find_images(arguments.images)), unit="file") as bar:
        manifest = prepare(
            arguments.images,
            arguments.to,
            channels=arguments.channels,
            min_side_px=arguments.min_side_px,
            on_file=_advancing(bar),
        )
    for entry in manifest.quarantined:
        print(f"left out: {entry.file}: {entry.reason}")
    megapixels = sum(image.height_px * image.width_px for image in manifest.images) / 1e6
    print(
        f"{len(manifest.images)} images with {megapixels:.1f} megapixels packed into {arguments.to}, "
        f"{len(manifest.quarantined)} left out"
    )


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from training.config import load_config
    from training.data import Pack
    from training.errors import ConfigError
    from training.run_dir import RunDir
    from training.train import train

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    run_dir = RunDir(arguments.run_path)
    if arguments.resume:
        if arguments.config is not None or arguments.overrides:
            raise ConfigError("a resumed run keeps its own config; leave out the config file and --set")
        config = run_dir.load_config()
    else:
        if arguments.config is None:
            raise ConfigError("name a config file such as training/configs/quick.toml, or continue with --resume")
        config = load_config(arguments.config, _overrides(arguments.overrides))
        run_dir.create(config)
    parent = None if arguments.start_from is None else RunDir(arguments.start_from)
    result = train(config, Pack(arguments.data), run_dir, resume=arguments.resume, start_from=parent)
    figure = "" if result.held_out_psnr_db is None else f", {result.held_out_psnr_db:.2f} dB on held-out images"
    print(f"{result.step} steps done{figure}; the run is in {arguments.run_path}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.data import find_images
    from training.evaluate import evaluate, load_network
    from training.run_dir import RunDir

    run_dir = RunDir(arguments.run_path)
    _, network = load_network(run_dir)
    with tqdm(total=len(find_images(arguments.images)), unit="image") as bar:
        evaluation = evaluate(
            network,
            arguments.images,
            channels=network.channels,
            sigmas=arguments.sigmas,
            on_image=_advancing(bar),
        )
    path = run_dir.save_evaluation(evaluation)
    print(f"{evaluation.image_set}: {evaluation.metric}\n\n{evaluation.table()}\n\nwritten to {path}")


def _export(arguments: argparse.Namespace) -> None:
    from training.data import Pack
    from training.export import export
    from training.run_dir import RunDir

    exported = export(
        RunDir(arguments.run_path),
        Pack(arguments.data),
        arguments.to,
        version=arguments.version,
        on_step=lambda step: print(f"{step} ..."),
    )
    contract = exported.contract
    print(
        f"{exported.path}: {exported.size_bytes} bytes, {contract.gmac_per_megapixel} GMAC/MP, "
        f"halo {contract.halo_px} px, at most {contract.parity.max_abs_difference:.1e} from torch"
    )


def _advancing(bar: "tqdm[NoReturn]") -> Callable[[Path], None]:
    """A callback that moves the bar by one file and names it."""

    def advance(path: Path) -> None:
        bar.set_postfix_str(path.name)
        bar.update()

    return advance


def _overrides(texts: list[str]) -> dict[str, str]:
    from training.errors import ConfigError

    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: must be KEY=VALUE, such as optimiser.steps=500")
    return dict(text.split("=", 1) for text in texts)


if __name__ == "__main__":
    sys.exit(main())
