"""Options that would make the README quote what is not recorded are refused before anything runs."""

import pytest

pytest.importorskip("cv2", reason="sheets are drawn by the training package")
main = pytest.importorskip("tests.bench.quality.__main__").main

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    "arguments",
    [["--readme"], ["--readme", "--json-dir", "docs/results", "--count", "2"], ["--count", "0"]],
    ids=["results elsewhere", "a part of the set", "no images"],
)
def test_a_run_that_could_not_be_quoted_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
