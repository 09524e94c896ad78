"""``python -m tests.bench.energy FOLDER...``: how often the energy report is right, on photographs.

Photographs become images of several kinds (``traffic``), each goes through a real service by ``Client.inspect``, and
what the report says is compared with what was done. Prints tables; ``--json`` writes the figures, and every image's.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from denoised import Client
from service.demo.process import running_service
from tests.bench.energy.table import Found, clips, distance_from_flat, document, markdown
from tests.bench.energy.traffic import KINDS, Picture, image_of

_SUFFIXES: Final = {".png", ".webp", ".jpg"}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.energy", description=__doc__)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="clean photographs")
    parser.add_argument("--side", type=int, help="look at so many pixels a side of their middle (default: all)")
    parser.add_argument("--only", help="kinds, separated by semicolons (default: all)")
    parser.add_argument("--server", help="host:port of a running service (default: starts one)")
    parser.add_argument("--model", default="", help="model (default: the server's choice)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    kinds = arguments.only.split(";") if arguments.only else list(KINDS)
    photographs = list(_photographs(arguments.folders, arguments.side))
    if arguments.server:
        found = _found(arguments.server, arguments.model, photographs, kinds)
    else:
        with running_service() as service:
            found = _found(service.grpc_target, arguments.model, photographs, kinds)
    print(markdown(found))
    if arguments.json:
        figures = document(found) | {"images": [asdict(image) for image in found], "side_px": arguments.side}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if "noise 25" in kinds:
        print("\nKolmogorov-Smirnov distance of the quantiles from flat, kinds of noise that the model was made for:")
        for name, distance in _distances(found).items():
            print(f"  {name:32}{distance:.3f}")


def _distances(found: list[Found]) -> dict[str, float]:
    ordinary = [image for image in found if KINDS[image.kind].sigma and not KINDS[image.kind].deserved]
    names = sorted({name for image in ordinary for name in image.quantiles})
    return {
        name: distance_from_flat(image.quantiles[name] for image in ordinary if name in image.quantiles)
        for name in names
    }


def _photographs(folders: list[Path], side_px: int | None) -> Iterator[tuple[str, Picture]]:
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES):
            picture = np.asarray(Image.open(path).convert("RGB"))
            if side_px is not None:
                top, left = (max(0, (side - side_px) // 2) for side in picture.shape[:2])
                picture = picture[top : top + side_px, left : left + side_px]
            yield path.name, np.ascontiguousarray(picture)


def _found(server: str, model: str, photographs: list[tuple[str, Picture]], kinds: list[str]) -> list[Found]:
    found = []
    with Client(server) as client:
        for kind in kinds:
            for number, (name, photograph) in enumerate(photographs):
                result = client.inspect(image_of(kind, photograph, number), model=model)
                statistics = result.energy.statistics
                found.append(
                    Found(
                        kind=kind,
                        photograph=name,
                        clips=clips(photograph),
                        sigma=statistics["noise_sigma"].value,
                        verdicts=result.energy.verdicts,
                        quantiles={
                            each: statistic.quantile
                            for each, statistic in statistics.items()
                            if statistic.quantile is not None
                        },
                    )
                )
    return found


if __name__ == "__main__":
    main()
