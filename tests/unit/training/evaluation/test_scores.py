"""Scores as data: means, intervals, tables, and differences image by image."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.errors import DataError, WorseThanBefore
from training.evaluation.changes import paired_changes
from training.evaluation.gate import load_previous, require_levels, require_no_worse
from training.evaluation.scores import (
    DEFINITIONS,
    NETWORK,
    NOISY,
    Evaluation,
    PlanePoint,
    Probe,
    Score,
    headline_level,
    load_evaluation,
    psnr_of,
)


def evaluation(shift_db: float = 0.0, *, levels: tuple[float, ...] = (15.0, 25.0)) -> Evaluation:
    """Three images that differ far more from each other than two networks do."""
    scores = []
    for level in levels:
        for number, own_db in enumerate((25.0, 30.0, 35.0)):
            jitter_db = 0.001 * number
            name = f"{number}.png"
            scores += [
                Score(NETWORK, name, level, own_db - level / 10 + shift_db + jitter_db, 0.9, 0.8, level + 0.5),
                Score(NOISY, name, level, 20.0, 0.4, 0.99),
                Score("median", name, level, 24.0, 0.7, 0.5),
            ]
    return Evaluation("val", DEFINITIONS, tuple(scores))


def test_means_and_intervals_are_over_images() -> None:
    interval = evaluation().interval(15.0, psnr_of)
    assert interval is not None
    assert interval.mean == pytest.approx(28.501)
    assert interval.count == 3
    assert interval.high is not None
    assert interval.high - interval.mean == pytest.approx(12.42, abs=0.01)


def test_the_input_comes_first_and_the_network_last() -> None:
    assert evaluation().methods() == [NOISY, "median", NETWORK]


def test_the_table_has_a_row_for_each_level_and_a_column_for_each_method() -> None:
    lines = evaluation().table().splitlines()
    assert lines[0].startswith("| sigma | noisy PSNR | median PSNR | PSNR |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 15", "| 25"]
    assert "28.50 ± 12.42" in lines[2]


def test_json_reads_back_to_an_equal_evaluation() -> None:
    whole = replace(
        evaluation(),
        probe=Probe(2, 10, 5, 3, 0.8, 0.4, 0.9, 0.6, 0.2, 0.8),
        plane=(PlanePoint(0.5, -1.0, "7"),),
        protocol="own_noise",
    )
    assert Evaluation.from_json(whole.to_json()) == whole


def test_each_protocol_has_files_of_its_own() -> None:
    stems = {replace(evaluation(), protocol=protocol).stem for protocol in ("gaussian", "own_noise", "pairs")}
    assert len(stems) == 3


def test_the_model_file_gets_means_by_the_names_of_levels() -> None:
    assert evaluation().quality_db() == {"15": 28.5, "25": 27.5}
    assert list(replace(evaluation(levels=(0.5,)), protocol="own_noise").quality_db()) == ["severity 0.5"]
    assert list(replace(evaluation(levels=(0.0,)), protocol="pairs").quality_db()) == ["as recorded"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image_set": 1}'])
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "val.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"val\.json"):
        load_evaluation(path)


def test_differences_between_networks_are_not_hidden_by_differences_between_images() -> None:
    change = paired_changes(evaluation(), evaluation(0.1))[0]
    assert change.psnr_db.mean == pytest.approx(0.1)
    assert change.psnr_db.low == pytest.approx(0.1, abs=1e-9)


def test_evaluations_of_other_images_or_protocols_are_not_compared() -> None:
    other = evaluation()
    fewer = replace(other, scores=tuple(score for score in other.scores if score.file != "0.png"))
    for wrong in (
        fewer,
        replace(other, protocol="pairs"),
        replace(other, metric="PSNR on Y"),
        replace(other, noise="stronger"),
        replace(other, samples_digest="b" * 64),
    ):
        with pytest.raises(DataError, match="can't be compared"):
            paired_changes(other, wrong)
    with pytest.raises(DataError, match="no noise level in common"):
        paired_changes(evaluation(levels=(15.0,)), evaluation(levels=(50.0,)))


def test_the_gate_lets_small_losses_pass_and_names_large_ones() -> None:
    assert len(require_no_worse(evaluation(), evaluation(-0.049))) == 2
    with pytest.raises(WorseThanBefore, match=r"-0.060 dB .* at 15, .* at 25.*--tolerance-db"):
        require_no_worse(evaluation(), evaluation(-0.06))
    assert require_no_worse(evaluation(), evaluation(-0.06), tolerance_db=0.1)


def test_the_gate_wants_every_level_of_the_earlier_run() -> None:
    with pytest.raises(DataError, match=r"lacks 15, 25.*measured at 50"):
        require_no_worse(evaluation(), evaluation(levels=(50.0,)))
    with pytest.raises(DataError, match="lacks 15;"):
        require_levels(evaluation(), (25.0, 50.0), protocol="gaussian")
    assert len(require_no_worse(evaluation(levels=(15.0,)), evaluation(levels=(15.0, 25.0)))) == 1


def test_the_gate_fails_on_what_is_no_number() -> None:
    with pytest.raises(WorseThanBefore, match="nan dB"):
        require_no_worse(evaluation(), evaluation(float("nan")))
    with pytest.raises(WorseThanBefore, match="nan dB"):
        require_no_worse(evaluation(float("nan")), evaluation())


def test_scores_that_are_no_number_read_back_as_such() -> None:
    found = Evaluation.from_json(evaluation(float("nan")).to_json())
    assert all(score.psnr_db != score.psnr_db for score in found.at(15.0))


def test_what_is_no_number_is_worst() -> None:
    whole = evaluation()
    scores = tuple(replace(score, psnr_db=float("nan")) if score.file == "1.png" else score for score in whole.scores)
    assert [score.file for score in replace(whole, scores=scores).worst(15.0, 2)] == ["1.png", "0.png"]


@pytest.mark.parametrize(
    ("levels", "headline"),
    [((15.0, 25.0, 50.0), 25.0), ((50.0, 0.0, 15.0), 15.0), ((0.0, 0.5, 1.0), 0.5), ((5.0,), 5.0)],
)
def test_the_headline_is_sigma_25_or_the_middle(levels: tuple[float, ...], headline: float) -> None:
    assert headline_level(levels) == headline


def test_the_gate_reads_a_file_or_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = run / "evaluations" / "val.json"
    path.parent.mkdir(parents=True)
    path.write_text(evaluation().to_json(), encoding="utf-8")
    assert load_previous(path, "val") == load_previous(run, "val") == evaluation()
    with pytest.raises(DataError, match="no evaluation on kodak"):
        load_previous(run, "kodak")
