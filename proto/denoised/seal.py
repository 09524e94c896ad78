"""The seal of a model file: a digest inside it, by which one changed byte anywhere is noticed.

An ONNX file's weights carry no checksum, so a flipped bit makes a network that loads and answers wrongly. The seal is
the SHA-256 of the whole file with the digest's own 64 characters taken as zeros. Pure bytes: a metadata entry lies
in the file as its key and value in plain text, so that neither ONNX nor protobuf is needed to find it.
"""

import hashlib
import re
from typing import Final

from denoised.contract import FILE_DIGEST_KEY, ContractError

DIGEST_CHARACTER_COUNT: Final = 64
UNSEALED: Final = "0" * DIGEST_CHARACTER_COUNT

# Protobuf's form of the entry: field 1 and field 2, each a tag, a length and the text.
_BEFORE_DIGEST: Final = b"\x0a" + bytes([len(FILE_DIGEST_KEY)]) + FILE_DIGEST_KEY.encode() + b"\x12\x40"
_HEX: Final = re.compile(rb"[0-9a-f]{64}")


def seal(model_bytes: bytes) -> bytes:
    """The same file with its digest filled in.

    Args:
        model_bytes: a file whose metadata hold ``UNSEALED``, or an earlier digest, under ``FILE_DIGEST_KEY``.

    Raises:
        ContractError: the file has no such entry, or several.
    """
    start = _digest_start(model_bytes)
    return _with_digest(model_bytes, start, _digest(model_bytes, start).encode())


def check_seal(model_bytes: bytes) -> str:
    """The digest that the file carries, when it is right.

    Raises:
        ContractError: there is no seal, or the file was changed after it was sealed.
    """
    start = _digest_start(model_bytes)
    carried = model_bytes[start : start + DIGEST_CHARACTER_COUNT]
    found = _digest(model_bytes, start)
    if carried != found.encode():
        said = carried.decode() if _HEX.fullmatch(carried) else "no digest at all"
        raise ContractError(
            f"the file was changed after it was sealed: it says {said}, its bytes give {found}. "
            "Copy it again from where it came, or export it again"
        )
    return found


def _digest_start(model_bytes: bytes) -> int:
    count = model_bytes.count(_BEFORE_DIGEST)
    start = model_bytes.find(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    if count != 1 or start + DIGEST_CHARACTER_COUNT > len(model_bytes):
        raise ContractError(
            f"the file carries {'no whole' if count <= 1 else count} {FILE_DIGEST_KEY}; exactly one is right. "
            "Either it is damaged, or it was not made by: python -m training export"
        )
    return start


def _digest(model_bytes: bytes, start: int) -> str:
    return hashlib.sha256(_with_digest(model_bytes, start, UNSEALED.encode())).hexdigest()


def _with_digest(model_bytes: bytes, start: int, digest: bytes) -> bytes:
    return model_bytes[:start] + digest + model_bytes[start + DIGEST_CHARACTER_COUNT :]
