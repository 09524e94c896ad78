"""Predicted work of images that is not in the queue yet, because an image queues a few units at a time."""

from collections.abc import Hashable, Mapping
from typing import Final

_NOTHING_S: Final = 1e-9


class Unoffered:
    """Seconds of one lane, in all and of each client that has some.

    Attributes:
        total_s: of all clients.
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self._by_share_s: dict[Hashable, float] = {}

    def add(self, share: Hashable, seconds: float) -> None:
        """Adds to what a client has not offered yet; takes from it when negative."""
        if not seconds:
            return
        shares = self._by_share_s
        shares[share] = shares.get(share, 0.0) + seconds
        self.total_s += seconds
        # What sums of floats leave of nothing.
        if shares[share] < _NOTHING_S:
            del shares[share]
        if not shares:
            self.total_s = 0.0

    def by_share_s(self) -> Mapping[Hashable, float]:
        """What each client has that has some."""
        return self._by_share_s

    def before_s(self, share: Hashable, queued_s: float) -> float:
        """What of it runs before new work of a client that has ``queued_s`` before it in the queue.

        While its own images pass, fairness lets as much of the others' pass.
        """
        own_s = self._by_share_s.get(share, 0.0)
        return own_s + min(self.total_s - own_s, own_s + queued_s)
