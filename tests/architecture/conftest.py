"""What the architecture tests look at: the repository's files as git sees them, and the modules as syntax trees."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_IMPORT_ROOTS = {"service": ROOT, "training": ROOT, "denoised": ROOT / "proto"}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, ast.Module]:
    """The hand-written modules of the three packages, by their full names."""
    found = {}
    for package, import_root in _IMPORT_ROOTS.items():
        for path in sorted((import_root / package).rglob("*.py")):
            if path.stem.endswith(("_pb2", "_pb2_grpc")):
                continue
            parts = path.relative_to(import_root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    assert set(_IMPORT_ROOTS) <= found.keys()
    return found


@pytest.fixture(scope="session")
def repository_files(root: Path) -> list[Path]:
    """What is committed or would be, relative to the root."""
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: nothing tells which files belong to the repository")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return [Path(name) for name in names if name and (root / name).is_file()]
