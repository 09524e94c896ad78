"""What each request is: which images, on which connection, taken back when. Pure and drawn from one generator."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from denoised.load.kinds import Kind

_DRAWN_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Shot:
    """One request.

    Attributes:
        due_s: when it is to be sent, from the start of the stage.
        pictures: places of its images among the prepared ones.
        connection: which connection it goes over.
        cancel_after_s: when it is taken back, after it was due; None: never.
    """

    due_s: float
    pictures: tuple[int, ...]
    connection: int
    cancel_after_s: float | None


@dataclass(frozen=True, slots=True)
class Workload:
    """How requests are drawn.

    Attributes:
        picture_weights: chance of each prepared image; they add up to 1.
        images_per_shot: images in one request.
        connection_count: connections, used in turn.
        cancel_share: chance (0..1) that a request is taken back.
        cancel_after_s: mean of the exponential delay after which it is.
    """

    picture_weights: tuple[float, ...]
    images_per_shot: int
    connection_count: int
    cancel_share: float = 0.0
    cancel_after_s: float = 0.0

    def shots(self, due_s: Iterable[float], rng: np.random.Generator) -> Iterator[Shot]:
        """A request for each time; the same ones for an ``rng`` in the same state."""
        draws = self._draws(rng)
        for index, time_s in enumerate(due_s):
            pictures, cancel_after_s = next(draws)
            yield Shot(time_s, pictures, index % self.connection_count, cancel_after_s)

    def _draws(self, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], float | None]]:
        shape = (_DRAWN_AT_ONCE, self.images_per_shot)
        while True:
            pictures = rng.choice(len(self.picture_weights), shape, p=self.picture_weights).tolist()
            is_cancelled = (rng.random(_DRAWN_AT_ONCE) < self.cancel_share).tolist()
            delays_s = rng.exponential(self.cancel_after_s, _DRAWN_AT_ONCE).tolist()
            for places, cancelled, delay_s in zip(pictures, is_cancelled, delays_s, strict=True):
                yield tuple(places), delay_s if cancelled else None


def picture_weights(kinds: Sequence[Kind], *, each_count: int) -> tuple[float, ...]:
    """The chance of each of ``make_pictures``' images: its kind's share, split evenly among the kind's images."""
    total = sum(kind.weight for kind in kinds) * each_count
    return tuple(kind.weight / total for kind in kinds for _ in range(each_count))
