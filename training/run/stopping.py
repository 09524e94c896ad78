"""Which checkpoint is the best so far, and whether waiting for a better one has lasted long enough. Pure."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run's metric went so far; part of every checkpoint, so that a resumed run waits no longer than another.

    Attributes:
        best_step: of the best checkpoint, or None before the first measurement.
        best_value: its metric.
        waited: measurements since one that improved by enough.
        reference_value: what the next improvement is counted from.
    """

    best_step: int | None = None
    best_value: float | None = None
    waited: int = 0
    reference_value: float | None = None

    def after(
        self, step: int, value: float, *, metric: Literal["psnr_db", "loss"], min_improvement: float
    ) -> "Progress":
        """The state after one more measurement. A better loss is lower, a better PSNR higher.

        Any gain makes a checkpoint the best one; only a gain of ``min_improvement`` over the last such gain ends the
        waiting, so that a run that creeps does not go on for ever.
        """
        sign = 1.0 if metric == "psnr_db" else -1.0
        after = self
        if self.best_value is None or sign * (value - self.best_value) > 0:
            after = replace(after, best_step=step, best_value=value)
        if self.reference_value is None or (
            sign * (value - self.reference_value) > 0 and sign * (value - self.reference_value) >= min_improvement
        ):
            return replace(after, reference_value=value, waited=0)
        return replace(after, waited=self.waited + 1)

    def is_over(self, patience: int | None) -> bool:
        """Whether the run should stop."""
        return patience is not None and self.waited >= patience

    def to_tree(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Self:
        return cls(**tree)
