"""What decoding and encoding a photograph of 12 megapixels costs with each library, and with ours.

CPU time of one thread in ms a megapixel, the best of two to seven rounds, and the size as a share of the raw samples;
prints the tables of ADR 3. The photographs come with scikit-image. They stand side by side and are repeated downwards,
farther than deflate looks back; enlarging them would change the statistics that codecs live on. 16 bits have noise in
the lower eight, as sensors have.
"""

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import PIL.Image
import simplejpeg
import skimage.data
from numpy.typing import NDArray

from service.codec import decode, encode, sniff
from service.types import Container, Image

_HEIGHT_PX, _WIDTH_PX = 3000, 4000
_MEGAPIXELS = _HEIGHT_PX * _WIDTH_PX / 1e6
_NAMES = (
    "astronaut.png",
    "coffee.png",
    "chelsea.png",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "motorcycle_right.png",
)
_QUALITY = 95
_MOST_ROUNDS = 7
_ENOUGH_S = 1.0

Encoders = Mapping[str, Callable[[NDArray[Any]], bytes]]
Decoders = Mapping[str, Callable[[bytes], NDArray[Any]]]


def main() -> None:
    cv2.setNumThreads(1)
    photo = _photograph()
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint16)
    for bits, samples in ((8, photo), (16, photo * np.uint16(256) + noise)):
        _encoding(f"PNG, {bits} bits", samples, _png_encoders())
        for name, options in _PNG_KINDS.items():
            data = bytes(imagecodecs.png_encode(samples, level=1, strategy=_RLE, out=2 * samples.nbytes, **options))
            _decoding(f"PNG, {bits} bits, {name}", data, _PNG_DECODERS)
    for sampling in ("444", "420"):
        _encoding(f"JPEG, {sampling}", photo, _jpeg_encoders(sampling))
        _decoding(f"JPEG, {sampling}", simplejpeg.encode_jpeg(photo, _QUALITY, "RGB", sampling), _JPEG_DECODERS)


def _photograph() -> NDArray[np.uint8]:
    columns = []
    for name in _NAMES:
        picture = np.asarray(PIL.Image.open(Path(skimage.data.data_dir) / name).convert("RGB"))
        columns.append(np.tile(picture, (-(-_HEIGHT_PX // len(picture)), 1, 1))[:_HEIGHT_PX])
    return np.ascontiguousarray(np.concatenate(columns, axis=1)[:, :_WIDTH_PX])


_RLE = imagecodecs.PNG.STRATEGY.RLE
_FILTERS = imagecodecs.PNG.FILTER
_PNG_KINDS = {"Paeth": {"filter": _FILTERS.PAETH}, "average": {"filter": _FILTERS.AVG}}


def _ours(container: Container) -> Callable[[NDArray[Any]], bytes]:
    return lambda samples: encode(Image(samples, None, 0.0, 255.0), container, jpeg_quality=_QUALITY)


def _png_encoders() -> Encoders:
    def libpng(**options: Any) -> Callable[[NDArray[Any]], bytes]:
        return lambda samples: bytes(imagecodecs.png_encode(samples, out=2 * samples.nbytes, **options))

    return {
        "ours (average, ISA-L)": _ours(Container.PNG),
        "libpng, Paeth, run lengths": libpng(level=1, filter=_FILTERS.PAETH, strategy=_RLE),
        "libpng, average, run lengths": libpng(level=1, filter=_FILTERS.AVG, strategy=_RLE),
        "libpng, all filters, level 1": libpng(level=1),
        "libspng, level 1": lambda samples: bytes(imagecodecs.spng_encode(samples, 1)),
        "OpenCV": lambda samples: cv2.imencode(".png", samples)[1].tobytes(),
        "Pillow, level 1 (8 bits only)": _pillow("PNG", compress_level=1),
    }


def _jpeg_encoders(sampling: str) -> Encoders:
    factor = {"444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420}[sampling]
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    libraries: dict[str, Callable[[NDArray[Any]], bytes]] = {
        "simplejpeg": lambda samples: bytes(simplejpeg.encode_jpeg(samples, _QUALITY, "RGB", sampling)),
        "imagecodecs": lambda samples: bytes(imagecodecs.jpeg8_encode(samples, _QUALITY, subsampling=sampling)),
        "OpenCV": lambda samples: cv2.imencode(".jpg", samples, options)[1].tobytes(),
        "Pillow": _pillow("JPEG", quality=_QUALITY, subsampling={"444": 0, "420": 2}[sampling]),
    }
    return {"ours": _ours(Container.JPEG), **libraries} if sampling == "444" else libraries


def _pillow(container: str, **options: Any) -> Callable[[NDArray[Any]], bytes]:
    def function(samples: NDArray[Any]) -> bytes:
        file = io.BytesIO()
        # Pillow knows no 16-bit RGB.
        PIL.Image.fromarray(samples if samples.dtype == np.uint8 else (samples >> 8).astype(np.uint8)).save(
            file, container, **options
        )
        return file.getvalue()

    return function


def _decode_ours(data: bytes) -> NDArray[Any]:
    return decode(data, sniff(data, claimed=None)).colour


_COMMON_DECODERS: Decoders = {
    "ours": _decode_ours,
    "OpenCV": lambda data: np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)),
    "Pillow": lambda data: np.asarray(PIL.Image.open(io.BytesIO(data))),
}
_PNG_DECODERS: Decoders = {**_COMMON_DECODERS, "libpng": imagecodecs.png_decode}
_JPEG_DECODERS: Decoders = {
    **_COMMON_DECODERS,
    "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
    "imagecodecs": imagecodecs.jpeg8_decode,
}


def _encoding(title: str, samples: NDArray[Any], encoders: Encoders) -> None:
    print(f"\n| write {title} | ms a megapixel | size |\n|---|---|---|")
    for name, function in encoders.items():
        spent_ms, file = _best(lambda function=function: function(samples))  # type: ignore[misc]
        print(f"| {name} | {spent_ms:.1f} | {len(file) / samples.nbytes:.3f} |")


def _decoding(title: str, data: bytes, decoders: Decoders) -> None:
    print(f"\n| read {title} | ms a megapixel | bits |\n|---|---|---|")
    for name, function in decoders.items():
        spent_ms, samples = _best(lambda function=function: function(data))  # type: ignore[misc]
        print(f"| {name} | {spent_ms:.1f} | {samples.dtype.itemsize * 8} |")


def _best(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds of this thread a megapixel, and what the function gave."""
    rounds_s: list[float] = []
    given = None
    # Getting memory for 36 MB from the system now and then takes longer than decoding into it.
    while len(rounds_s) < 2 or (len(rounds_s) < _MOST_ROUNDS and sum(rounds_s) < _ENOUGH_S):
        start_s = time.thread_time()
        given = function()
        rounds_s.append(time.thread_time() - start_s)
    return 1e3 * min(rounds_s) / _MEGAPIXELS, given


if __name__ == "__main__":
    main()
