"""``export``: writes the ONNX file with its contract and card, after all checks."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("export", help="write the ONNX file with its contract and card, after all checks")
    parser.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    parser.add_argument("--data", type=Path, required=True, help="packed images that it was trained on")
    parser.add_argument("--to", type=Path, required=True, help="model store; the model goes to TO/<name>/<version>/")
    parser.add_argument("--version", help="whole number; the next free one when left out")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.export.publish import export
    from training.run.directory import RunDir

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
