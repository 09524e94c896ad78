"""The networks that are measured, and the store that holds them: S, M and the shipped base."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, ModelContract
from service.settings import SHIPPED_MODELS_DIR
from service.tiling import TilePlan, kept, owned, plan, window

_TEST_STORE: Final = Path(__file__).parents[1] / "models"
BASE_NAME: Final = "gaussian-base"

S_FOLDER: Final = _TEST_STORE / "bench-s"
M_FOLDER: Final = _TEST_STORE / "bench-m"
OPEN_FOLDER: Final = _TEST_STORE / "bench-open"
BASE_FOLDER: Final = SHIPPED_MODELS_DIR / BASE_NAME

Picture = NDArray[np.uint8]


class Network:
    """A model file, and what ONNX Runtime alone makes of images with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = session(path, thread_count=1)
        self.contract = ModelContract.from_metadata(self._session.get_modelmeta().custom_metadata_map)

    @property
    def name(self) -> str:
        return self.contract.name

    def plan(self, height_px: int, width_px: int) -> TilePlan:
        """The units that the service cuts an image into."""
        contract = self.contract
        return plan(
            height_px=height_px,
            width_px=width_px,
            edges_px=contract.unit_edges_px,
            halo_px=contract.halo_px,
            multiple_px=contract.size_multiple_px,
        )

    def run(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, h, w) to (N, C, h, w), on one thread."""
        (image,) = self._session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: units})
        answer: NDArray[np.float32] = image
        return answer

    def answer(self, noisy: Picture) -> Picture:
        """(H, W, C) 8-bit samples denoised unit by unit, one at a time, on one thread."""
        tile_plan = self.plan(*noisy.shape[:2])
        result = np.empty_like(noisy)
        for index in range(tile_plan.tile_count):
            tile = window(noisy, tile_plan, index)
            missing = (tile_plan.rows.edge_px - tile.shape[0], tile_plan.columns.edge_px - tile.shape[1])
            padded = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
            planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[np.newaxis]).astype(np.float32) / np.float32(255)
            levels = np.rint(np.clip(self.run(planes)[0], 0, 1) * np.float32(255)).astype(np.uint8)
            owned(result, tile_plan, index)[:] = levels.transpose(1, 2, 0)[kept(tile_plan, index)]
        return result


def session(path: Path, *, thread_count: int, spinning: bool = True) -> ort.InferenceSession:
    """ONNX Runtime as it comes, but for the number of threads and whether idle ones spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Networks:
    """S, M and the shipped base; each is loaded when it is first used."""

    @cached_property
    def s(self) -> Network:
        return Network(_newest(S_FOLDER))

    @cached_property
    def m(self) -> Network:
        return Network(_newest(M_FOLDER))

    @cached_property
    def open(self) -> Network:
        """S for values without ends, which can be made to overflow."""
        return Network(_newest(OPEN_FOLDER))

    @cached_property
    def base(self) -> Network:
        return Network(_newest(BASE_FOLDER))


@contextmanager
def model_store(*folders: Path) -> Iterator[Path]:
    """A store of links to models' folders, such as ``tests/models/bench-s``."""
    with TemporaryDirectory(prefix="denoised-bench-store-") as folder:
        for source in folders:
            (Path(folder) / source.name).symlink_to(source.resolve(), target_is_directory=True)
        yield Path(folder)


def _newest(folder: Path) -> Path:
    return max(folder.glob("*/model.onnx"), key=lambda path: int(path.parent.name))
