"""Which of a run's evaluations and estimates were measured on the very weights that are exported.

A run's directory keeps what was measured at any time, on the best weights or on the last; nothing else belongs in a
model file or its card.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.evaluation.estimates import NoReference
from training.evaluation.scores import Evaluation, Origin
from training.evaluation.session import origin_of
from training.evaluation.store import load_estimates, load_evaluations
from training.run.directory import RunDir
from training.run.trained import Trained


@dataclass(frozen=True, slots=True)
class Evidence:
    """How good the exported weights were found to be.

    Attributes:
        evaluations: against clean truth.
        estimates: without it.
    """

    evaluations: Sequence[Evaluation]
    estimates: Sequence[NoReference]


def evidence_of(run_dir: RunDir, trained: Trained, on_note: Callable[[str], None]) -> Evidence:
    """What was measured on these weights; what was measured on others is left out, and ``on_note`` is told why.

    Raises:
        DataError: a file is damaged.
    """

    def is_fitting(what: str, stem: str, origin: Origin | None) -> bool:
        wanted = origin_of(trained)
        if origin is not None and _key(origin) == _key(wanted):
            return True
        on_note(
            f"the {what} {stem!r} are left out of the file and its card: measured were {_in_words(origin)}, exported "
            f"are {_in_words(wanted)}. Run again: python -m training evaluate"
        )
        return False

    return Evidence(
        [each for each in load_evaluations(run_dir) if is_fitting("scores of", each.stem, each.origin)],
        [each for each in load_estimates(run_dir) if is_fitting("estimates on", each.stem, each.origin)],
    )


def _key(origin: Origin) -> tuple[int, str, str]:
    return origin.step, origin.weights, origin.training_data_digest


def _in_words(origin: Origin | None) -> str:
    if origin is None:
        return "weights that they don't name"
    return f"the {origin.weights} weights, of step {origin.step}, trained on {origin.training_data_digest[:12]}"
