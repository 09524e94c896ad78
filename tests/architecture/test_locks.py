"""The lock files: complete, hashed where they can be, agreeing with each other and with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[2]
_REQUIREMENTS = _ROOT / "requirements"
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Which extras each lock holds, beside the client's own needs.
_EXTRAS_OF = {
    "client": (),
    "service": ("service",),
    "demo": ("service", "demo"),
    "dev": ("service", "demo", "dev"),
    "training": ("training",),
}
_LOCKS = sorted(path.stem for path in _REQUIREMENTS.glob("*.txt"))
_HASHED = [name for name in _LOCKS if name != "training"]
_HASHES = re.compile(r"( --hash=sha256:[0-9a-f]{64})+$")


def _lines(lock: str) -> list[str]:
    """The requirements with their hashes, one a line."""
    text = (_REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8")
    joined = re.sub(r"\s*\\\n\s*", " ", re.sub(r"(^|\s+)#.*", "", text))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _pins(lock: str) -> dict[str, str]:
    pins: dict[str, str] = {}
    for line in _lines(lock):
        requirement = Requirement(_HASHES.sub("", line))
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def _wanted(lock: str) -> list[Requirement]:
    """What the lock was made from."""
    texts = []
    if lock in _EXTRAS_OF:
        texts += _PROJECT["dependencies"]
        texts += [text for extra in _EXTRAS_OF[lock] for text in _PROJECT["optional-dependencies"][extra]]
    source = _REQUIREMENTS / f"{lock}.in"
    if source.exists():
        texts += [line for line in source.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [Requirement(text) for text in texts]


def test_every_environment_has_its_lock() -> None:
    assert {*_EXTRAS_OF, *(path.stem for path in _REQUIREMENTS.glob("*.in"))} == set(_LOCKS)


@pytest.mark.parametrize("lock", _HASHED)
def test_every_package_is_hashed(lock: str) -> None:
    assert _lines(lock)
    assert not [line for line in _lines(lock) if not _HASHES.search(line)]


@pytest.mark.parametrize("lock", _HASHED)
def test_torch_is_not_in_a_lock_with_hashes(lock: str) -> None:
    assert not {"torch", "torchvision", "triton"} & _pins(lock).keys()


def test_the_training_lock_suits_every_build_of_torch() -> None:
    pins = _pins("training")

    assert pins["torch"] == "2.13.0"
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-", "triton"))]


@pytest.mark.parametrize("lock", _LOCKS)
def test_a_lock_names_no_place(lock: str) -> None:
    text = (_REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8")

    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    assert not [version for version in _pins(lock).values() if "+" in version]
    assert not re.search(r"(^|\s)/", text)


def test_the_locks_of_one_environment_agree() -> None:
    versions: dict[str, set[str]] = {}
    for lock in _EXTRAS_OF:
        for name, version in _pins(lock).items():
            versions.setdefault(name, set()).add(version)

    assert not {name: found for name, found in versions.items() if len(found) > 1}


@pytest.mark.parametrize(("narrow", "wide"), [("client", "service"), ("service", "demo"), ("demo", "dev")])
def test_each_lock_holds_the_one_before(narrow: str, wide: str) -> None:
    assert _pins(narrow).items() <= _pins(wide).items()


@pytest.mark.parametrize("lock", _LOCKS)
def test_a_lock_satisfies_what_it_was_made_from(lock: str) -> None:
    pins = _pins(lock)
    wanted = _wanted(lock)

    assert {canonicalize_name(requirement.name) for requirement in wanted} <= pins.keys()
    assert not [str(each) for each in wanted if pins[canonicalize_name(each.name)] not in each.specifier]


def test_the_stubs_are_made_by_the_oldest_protobuf_that_is_supported() -> None:
    (bound,) = (Requirement(text) for text in _PROJECT["dependencies"] if text.startswith("protobuf"))
    oldest = min(specifier.version for specifier in bound.specifier if specifier.operator == ">=")

    assert _pins("proto")["protobuf"] == oldest
