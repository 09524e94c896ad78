"""What batches cost: seconds of one lane, predicted before they run and corrected by how they ran.

``a * n + b`` for n units of one shape, from a profile where there is one, else from the model's own warm-up run at
one pace for every pixel: a convolutional network's time follows its pixels closely, and fixed shapes make it
repeatable (Clockwork, OSDI 2020, plans on the same ground). What the machine does to that, a neighbour or a slower
clock, is learnt as one factor for each shape. Pure: no clock, no I/O.
"""

import math
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

# Weight of the newest observation: after a change of pace, ten batches leave 6 % of the difference.
_NEWEST_SHARE: Final = 0.25
# An observation further off than this is a hiccup when it stands alone, and a new pace when it comes twice in a row.
_PLAUSIBLE_RATIO: Final = 4.0
# Recent batches that the spread is taken from, and how few say nothing yet.
_SPREAD_WINDOW: Final = 256
_SPREAD_LEAST: Final = 20
_SPREAD_EVERY: Final = 16
# Until it is known. Lanes that share two busy cores measured 1.1 to 1.4.
_SPREAD_AT_FIRST: Final = 1.5


@dataclass(frozen=True, slots=True)
class ShapeCost:
    """Seconds of one lane for n units of one shape: ``per_unit_s * n + fixed_s``, neither negative."""

    per_unit_s: float
    fixed_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.per_unit_s < math.inf and 0 <= self.fixed_s < math.inf):
            raise ValueError(
                f"a batch of n units can't take {self.per_unit_s} s * n + {self.fixed_s} s; "
                "the first must be positive, the second not negative, both finite"
            )


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What is known of a model before it serves.

    Attributes:
        seconds_per_pixel: for shapes that are not listed, halos included.
        shapes: by (height, width) in pixels.
    """

    seconds_per_pixel: float
    shapes: Mapping[tuple[int, int], ShapeCost] = field(default_factory=dict)

    def of(self, height_px: int, width_px: int) -> ShapeCost:
        listed = self.shapes.get((height_px, width_px))
        return listed or ShapeCost(self.seconds_per_pixel * height_px * width_px)


class CostModel:
    """Predicts and learns. One thread owns it."""

    def __init__(self) -> None:
        self._models: dict[Hashable, tuple[ModelCost, _Pace]] = {}
        self._shapes: dict[tuple[Hashable, int, int], _LearntShape] = {}
        self._errors: deque[float] = deque(maxlen=_SPREAD_WINDOW)
        self._spread = _SPREAD_AT_FIRST
        self._observed_count = 0

    def add_model(self, model_key: Hashable, cost: ModelCost) -> None:
        """Makes a model known; one that was known before is learnt anew."""
        self.forget(model_key)
        self._models[model_key] = (cost, _Pace())

    def forget(self, model_key: Hashable) -> None:
        """Drops what is known and learnt of a model that is unloaded; no matter whether it was known."""
        self._models.pop(model_key, None)
        self._shapes = {key: shape for key, shape in self._shapes.items() if key[0] != model_key}

    def predict_s(self, model_key: Hashable, height_px: int, width_px: int, count: int = 1) -> float:
        """Seconds of one lane for one batch of ``count`` units.

        Raises:
            KeyError: the model was not added.
        """
        shape = self._shapes.get((model_key, height_px, width_px))
        if shape is None:
            shape = self._new_shape(model_key, height_px, width_px)
        pace = shape.pace if shape.pace.observed_count else shape.model_pace
        return pace.factor * (shape.per_unit_s * count + shape.fixed_s)

    def observe(self, model_key: Hashable, height_px: int, width_px: int, count: int, seconds: float) -> None:
        """Learns from one batch that ran on a lane; runs on the wide lane are not of this kind. Ignores seconds <= 0.

        Raises:
            KeyError: the model was not added.
        """
        predicted_s = self.predict_s(model_key, height_px, width_px, count)
        if seconds <= 0:
            return
        self._note_error(seconds / predicted_s)
        shape = self._shapes[(model_key, height_px, width_px)]
        ratio = seconds / (shape.per_unit_s * count + shape.fixed_s)
        shape.pace.learn(ratio)
        shape.model_pace.learn(ratio)

    def spread(self) -> float:
        """How much longer than predicted a slow batch takes: 95th percentile over median of observed / predicted."""
        return self._spread

    def _new_shape(self, model_key: Hashable, height_px: int, width_px: int) -> "_LearntShape":
        cost, model_pace = self._models[model_key]
        known = cost.of(height_px, width_px)
        shape = _LearntShape(known.per_unit_s, known.fixed_s, model_pace)
        self._shapes[(model_key, height_px, width_px)] = shape
        return shape

    def _note_error(self, ratio: float) -> None:
        self._errors.append(ratio)
        self._observed_count += 1
        if len(self._errors) >= _SPREAD_LEAST and self._observed_count % _SPREAD_EVERY == 0:
            ranked = sorted(self._errors)
            slow, median = ranked[math.ceil(0.95 * len(ranked)) - 1], ranked[len(ranked) // 2]
            self._spread = min(max(slow / median, 1.0), _PLAUSIBLE_RATIO)


class _Pace:
    """The factor between what was foretold and what happens, as a running geometric mean that forgets.

    The first observation counts in full. One that is more than ``_PLAUSIBLE_RATIO`` off moves the factor as far as
    one that is just that far off; the second in a row on the same side replaces it. So a hiccup does little, and no
    first guess, however wrong, lasts longer than two batches.
    """

    __slots__ = ("_implausible_side", "factor", "observed_count")

    def __init__(self) -> None:
        self.factor = 1.0
        self.observed_count = 0
        self._implausible_side = 0

    def learn(self, ratio: float) -> None:
        step = math.log(ratio / self.factor)
        limit = math.log(_PLAUSIBLE_RATIO)
        side = 0 if abs(step) <= limit else (1 if step > 0 else -1)
        if self.observed_count == 0 or (side != 0 and side == self._implausible_side):
            self.factor, self.observed_count, self._implausible_side = ratio, 1, 0
            return
        self.observed_count += 1
        self._implausible_side = side
        share = max(_NEWEST_SHARE, 1 / self.observed_count)
        self.factor *= math.exp(share * min(max(step, -limit), limit))


@dataclass(slots=True)
class _LearntShape:
    per_unit_s: float
    fixed_s: float
    model_pace: _Pace
    pace: _Pace = field(default_factory=_Pace)
