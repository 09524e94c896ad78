"""What the repository as a whole keeps: documented modules, nothing ignored or machine-specific, one test command."""

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

_MACHINE_PATH = re.compile(r"(?<![\w.~-])/(work|opt|root)/")


def test_every_module_says_what_it_is_for(modules: Mapping[str, ast.Module]) -> None:
    assert not [name for name, module in modules.items() if not ast.get_docstring(module)]


def test_every_test_module_says_what_it_is_for(root: Path) -> None:
    paths = sorted((root / "tests").rglob("*.py"))

    assert not [str(path) for path in paths if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


def test_nothing_ignored_is_committed(root: Path) -> None:
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: nothing tells which files belong to the repository")

    listing = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]

    assert not subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout


def test_no_file_knows_the_machine_it_was_written_on(root: Path, repository_files: list[Path]) -> None:
    found = []
    for path in repository_files:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a network or a picture
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path}:{number}: {line}" for number, line in lines if _MACHINE_PATH.search(line)]

    assert not found


def test_the_import_root_of_the_public_package_is_no_package(root: Path) -> None:
    assert not list((root / "proto").glob("*.py"))


def test_the_readme_names_the_commands_and_ci_runs_them(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    last_line_of_ci = (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]

    assert "make demo" in readme
    assert "make test" in readme
    assert last_line_of_ci == "make test"


def test_every_target_that_the_texts_name_exists(root: Path, repository_files: list[Path]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    texts = {path: (root / path).read_text(encoding="utf-8") for path in repository_files if path.suffix == ".md"}

    unknown = {
        f"{path}: make {name}"
        for path, text in texts.items()
        for name in re.findall(r"`make ([a-z][a-z-]*)", text)
        if name not in targets
    }

    assert not unknown
