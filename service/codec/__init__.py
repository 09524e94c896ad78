"""Bytes to samples and back: the only package that knows PNG, JPEG and raw sample layouts.

Pure functions: bytes in, values out; limits come as arguments. What may be decoded at all (pixels, memory) is
admission's decision, which is why ``sniff`` and ``check_size`` never touch a pixel. Calls may run in any number of
threads at once; the libraries release the GIL while they work on pixels.
"""

from service.codec.files import check_encodable, decode, encode
from service.codec.levels import resolve as resolve_levels
from service.codec.raw import (
    SampleLayout,
    SampleType,
    check_raw_length,
    decode_raw,
    dtype_of,
    encode_raw,
    nonfinite_samples,
    raw_bytes,
    raw_header,
    view_raw,
)
from service.codec.sniff import check_size, sniff

__all__ = [
    "SampleLayout",
    "SampleType",
    "check_encodable",
    "check_raw_length",
    "check_size",
    "decode",
    "decode_raw",
    "dtype_of",
    "encode",
    "encode_raw",
    "nonfinite_samples",
    "raw_bytes",
    "raw_header",
    "resolve_levels",
    "sniff",
    "view_raw",
]
