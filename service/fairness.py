"""Deficit round robin as arithmetic: who has had how much, and whose turn it is. Pure.

Source: Shreedhar and Varghese, "Efficient fair queuing using deficit round robin", IEEE/ACM ToN 4(3), 1996, in its
surplus form (Adiseshu, Parulkar, Varghese, "A reliable and scalable striping protocol", SIGCOMM 1996): a sharer may
go into debt by its last ticket and pays it back in the next rounds.

The ring of the papers visits everyone in every round, those in debt in vain. Here a sharer's debt says in which round
it is next due, a heap holds the sharers by that round, and rounds in which nobody is due are never visited. The order
is the ring's own; the cost is logarithmic however deep the debts are, so the quantum may be smaller than a ticket.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Account:
    """What one sharer has had: ``round_number`` whole quanta and ``spent_s`` of the next.

    Attributes:
        quantum_s: what it may have in each round, in seconds of work.
        sequence: when it entered that round; among those that are due in one round the smaller goes first.
        round_number: the round in which it is next due.
        spent_s: what it has had of that round's quantum, in [0, quantum_s).
        queued_cost_s: seconds of work that it has waiting; kept by whoever queues the work.
    """

    __slots__ = ("_ticks", "quantum_s", "queued_cost_s", "round_number", "sequence", "spent_s")

    def __init__(self, quantum_s: float, ticks: Iterator[int], *, round_number: int = 0) -> None:
        """``ticks`` counts up and is shared by all accounts of a ring."""
        self._ticks = ticks
        self.quantum_s = quantum_s
        self.sequence = next(ticks)
        self.round_number = round_number
        self.spent_s = 0.0
        self.queued_cost_s = 0.0

    def charge(self, cost_s: float) -> None:
        self.spent_s += cost_s
        if self.spent_s >= self.quantum_s:
            round_count, self.spent_s = divmod(self.spent_s, self.quantum_s)
            self.round_number += int(round_count)
            self.sequence = next(self._ticks)

    def advance_to(self, round_number: int) -> None:
        """Gives up what it left of earlier rounds."""
        if self.round_number < round_number:
            self.round_number = round_number
            self.spent_s = 0.0

    def reset(self) -> None:
        """Forgets what it has had."""
        self.round_number = 0
        self.spent_s = 0.0

    def may_take(self, cost_s: float, present_round: int, overrun_s: float) -> bool:
        """Whether ``cost_s`` more would leave it at most ``overrun_s`` past its quantum of ``present_round``."""
        return (self.round_number - present_round - 1) * self.quantum_s + self.spent_s + cost_s <= overrun_s

    def round_after(self, cost_s: float) -> int:
        """The round that it will be in when it has had ``cost_s`` more."""
        return self.round_number + int((self.spent_s + cost_s) / self.quantum_s)


class Sharer(Protocol):
    """Has an account, and work waiting or none."""

    account: Account
    ticket_count: int


K = TypeVar("K")
M = TypeVar("M", bound=Sharer)


class Ring(Generic[K, M]):
    """Sharers in the order of their turns.

    Accounts only advance, so an entry that is out of date surfaces too early and is put back: nothing is searched.
    A sharer without work is kept while it owes and is forgotten when the round that it had paid for comes. So it can't
    shed a debt by pausing, nor save anything up.

    Attributes:
        members: the sharers by key; those that wait, and some that don't any more.
        ticket_count: tickets of all members; kept by whoever queues them.
    """

    __slots__ = ("_compact_at_count", "_entries", "members", "ticket_count")

    _COMPACT_FROM_COUNT = 64

    def __init__(self) -> None:
        self.members: dict[K, M] = {}
        self.ticket_count = 0
        self._entries: list[tuple[int, int, K, M]] = []
        self._compact_at_count = self._COMPACT_FROM_COUNT

    @property
    def present_round(self) -> int:
        """No member is due before it. -1 without members."""
        return self._entries[0][0] if self._entries else -1

    def join(self, key: K, member: M) -> None:
        """Adds a sharer that is no member."""
        if len(self._entries) >= self._compact_at_count:
            self._compact()
        self.members[key] = member
        account = member.account
        heapq.heappush(self._entries, (account.round_number, account.sequence, key, member))

    def first(self) -> M:
        """The member whose turn it is. The caller knows that somebody waits.

        Raises:
            IndexError: nobody does.
        """
        while True:
            round_number, _, key, member = self._entries[0]
            account = member.account
            if account.round_number != round_number:
                heapq.heapreplace(self._entries, (account.round_number, account.sequence, key, member))
            elif member.ticket_count:
                return member
            else:
                heapq.heappop(self._entries)
                del self.members[key]

    def clear(self) -> None:
        self.members.clear()
        self._entries.clear()
        self._compact_at_count = self._COMPACT_FROM_COUNT

    def _compact(self) -> None:
        """Forgets who has no work and owes no more than a newcomer would. Amortised: runs when the heap doubled."""
        # What surfaced last may be long ago, so the present is looked up and not read off the heap.
        rounds = (member.account.round_number for member in self.members.values() if member.ticket_count)
        newcomer = (min(rounds, default=self.present_round) + 1, 0.0)
        kept = {
            key: member
            for key, member in self.members.items()
            if member.ticket_count or (member.account.round_number, member.account.spent_s) > newcomer
        }
        self.members = kept
        self._entries = [
            (member.account.round_number, member.account.sequence, key, member) for key, member in kept.items()
        ]
        heapq.heapify(self._entries)
        self._compact_at_count = max(self._COMPACT_FROM_COUNT, 2 * len(self._entries))
