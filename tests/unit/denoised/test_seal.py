"""One changed byte anywhere in a sealed file is noticed, and a file without a seal is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.contract import FILE_DIGEST_KEY, ContractError
from denoised.seal import UNSEALED, check_seal, seal


def entry(digest: str = UNSEALED) -> bytes:
    """The seal's entry as protobuf writes it."""
    key = FILE_DIGEST_KEY.encode()
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(digest)]) + digest.encode()


UNSEALED_FILE = b"weights before " + entry() + b" and weights behind"
SEALED_FILE = seal(UNSEALED_FILE)
DIGEST = hashlib.sha256(UNSEALED_FILE).hexdigest()


def test_the_digest_is_of_the_file_with_the_digests_own_place_zeroed() -> None:
    assert check_seal(SEALED_FILE) == DIGEST
    assert UNSEALED_FILE.replace(UNSEALED.encode(), DIGEST.encode()) == SEALED_FILE


def test_sealing_again_changes_nothing() -> None:
    assert seal(SEALED_FILE) == SEALED_FILE


@given(position=st.integers(0, len(SEALED_FILE) - 1), change=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(SEALED_FILE)
    damaged[position] ^= change
    with pytest.raises(ContractError):
        check_seal(bytes(damaged))


@given(st.integers(0, len(SEALED_FILE) - 1))
def test_a_file_that_ends_early_is_noticed(length: int) -> None:
    with pytest.raises(ContractError):
        check_seal(SEALED_FILE[:length])


@given(st.binary(min_size=1, max_size=20))
def test_bytes_that_were_added_are_noticed(more: bytes) -> None:
    for changed in (SEALED_FILE + more, more + SEALED_FILE):
        with pytest.raises(ContractError, match="changed after it was sealed"):
            check_seal(changed)


def test_the_refusal_of_a_changed_file_says_both_digests_and_the_remedy() -> None:
    with pytest.raises(ContractError, match=rf"it says {DIGEST}, its bytes give [0-9a-f]{{64}}\. Copy it again"):
        check_seal(SEALED_FILE.replace(b"behind", b"beside"))


def test_a_file_that_was_never_sealed_is_refused() -> None:
    with pytest.raises(ContractError, match=f"it says {UNSEALED}, its bytes give {DIGEST}"):
        check_seal(UNSEALED_FILE)


@pytest.mark.parametrize(
    "content",
    [b"", b"weights alone", entry()[:-1], entry("0" * 63), UNSEALED_FILE + entry()],
    ids=["empty", "no entry", "cut entry", "short digest", "two entries"],
)
def test_a_file_without_exactly_one_place_for_a_seal_is_refused(content: bytes) -> None:
    for read in (seal, check_seal):
        with pytest.raises(ContractError, match=f"{FILE_DIGEST_KEY}; exactly one is right"):
            read(content)
