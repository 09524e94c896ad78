"""What ``evaluate``, ``report`` and ``compare`` refuse before they measure anything."""

import argparse
from pathlib import Path

import pytest

from training.errors import ConfigError, RunError

pytest.importorskip("torch")

from training.verbs import compare, evaluate, report

pytestmark = pytest.mark.training


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    for verb in (evaluate, report, compare):
        verb.add(verbs)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("verb", ["evaluate", "report", "compare"])
def test_the_help_teaches_by_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(verb, "--help")
    assert ended.value.code == 0
    assert f"python -m training {verb} " in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "extra"), [("evaluate", ()), ("report", ()), ("compare", ("other",))])
def test_a_directory_without_a_run_is_named(tmp_path: Path, verb: str, extra: tuple[str, ...]) -> None:
    arguments = parsed(verb, str(tmp_path / "nothing"), *extra)
    if verb == "compare":
        with pytest.raises(Exception, match="nothing"):
            arguments.run(arguments)
    else:
        with pytest.raises(RunError, match="nothing"):
            arguments.run(arguments)


@pytest.mark.parametrize("given", [(), ("run", "--panel", "a", "b")], ids=["neither", "both"])
def test_a_report_is_of_one_run_or_of_a_panel(given: tuple[str, ...]) -> None:
    arguments = parsed("report", *given)
    with pytest.raises(ConfigError, match="--panel"):
        arguments.run(arguments)
