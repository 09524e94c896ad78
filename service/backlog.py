"""Owns what waits: tickets by deadline inside a client, clients by turn inside a class. Pure.

The clients of a class take turns in one :class:`~service.fairness.Ring`; those that have tickets of a group also in
the group's own, from which batches are filled. Both go by the same account.
"""

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Generic, TypeVar

from service.fairness import Account, Ring
from service.types import ServiceClass

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """One unit of work, or a few that are never parted.

    Attributes:
        item: what the engine needs; never looked into.
        client: whose share it is charged to.
        service_class: which class it waits in; a client may have tickets in several.
        group: units of equal groups can be stacked into one batch.
        pixel_count: what it takes of a batch's budget.
        cost_s: predicted seconds of one core's lane; what is charged.
        deadline_s: absolute, on the caller's monotonic clock; infinity for none.
        unit_count: how many units it really is; they run together.
        stack, sequence: the backlog's own; ``stack`` is set while the ticket is queued.

    Raises:
        ValueError: ``cost_s`` is not positive and finite, so it could not be charged, or ``deadline_s`` is no number.
    """

    item: T
    client: Hashable
    service_class: ServiceClass
    group: Hashable
    pixel_count: int
    cost_s: float
    deadline_s: float
    unit_count: int = 1
    stack: "Stack[T] | None" = field(default=None, init=False, repr=False)
    sequence: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.cost_s < inf or isnan(self.deadline_s):
            raise ValueError(
                f"a ticket costs {self.cost_s} s until {self.deadline_s} s; its cost must be positive and finite, "
                "its deadline a number: predict at least a microsecond, and pass infinity for no deadline"
            )

    @property
    def is_queued(self) -> bool:
        return self.stack is not None


class _Queue(Generic[T]):
    """Some of a client's tickets, by deadline and then by arrival.

    The heap holds numbers alone: what stays behind of a ticket that left keeps no image alive.

    Attributes:
        waiting: all of the client's tickets in the class, by sequence.
        ticket_count: how many of them are in this queue.
    """

    __slots__ = ("_entries", "account", "ticket_count", "waiting")

    _COMPACT_FROM_COUNT = 64

    def __init__(self, account: Account, waiting: dict[int, Ticket[T]]) -> None:
        self.account = account
        self.waiting = waiting
        self.ticket_count = 0
        self._entries: list[tuple[float, int]] = []

    def push(self, entry: tuple[float, int]) -> None:
        heapq.heappush(self._entries, entry)
        self.ticket_count += 1

    def head(self) -> Ticket[T]:
        """The earliest. The caller knows that there is one."""
        while (ticket := self.waiting.get(self._entries[0][1])) is None:
            heapq.heappop(self._entries)
        return ticket

    def count_out(self) -> None:
        """One of its tickets is waiting no more."""
        self.ticket_count -= 1
        if len(self._entries) > 2 * self.ticket_count + self._COMPACT_FROM_COUNT:
            self._entries = [entry for entry in self._entries if entry[1] in self.waiting]
            heapq.heapify(self._entries)


class Stack(_Queue[T]):
    """A client's tickets of one group in one class."""

    __slots__ = ("backlog", "client_queue", "ring")

    def __init__(self, backlog: "ClassBacklog[T]", client_queue: _Queue[T], ring: "GroupRing[T]") -> None:
        super().__init__(client_queue.account, client_queue.waiting)
        self.backlog = backlog
        self.client_queue = client_queue
        self.ring = ring

    def charge(self, cost_s: float) -> None:
        self.account.charge(cost_s)
        self.backlog.account.charge(cost_s)


GroupRing = Ring[Account, Stack[T]]


class ClassBacklog(Generic[T]):
    """All that waits in one class.

    Attributes:
        account: what the class has had, against the other classes.
        clients: the clients that take turns.
        groups: for each group, those of them that have tickets of it.
    """

    __slots__ = ("_client_quantum_s", "_ticks", "account", "clients", "groups")

    def __init__(self, *, weight: float, quantum_s: float, ticks: Iterator[int]) -> None:
        """``ticks`` counts up: it orders what is equal otherwise."""
        self._client_quantum_s = quantum_s
        self._ticks = ticks
        self.account = Account(weight * quantum_s, ticks)
        self.clients: Ring[Hashable, _Queue[T]] = Ring()
        self.groups: dict[Hashable, GroupRing[T]] = {}

    def add(self, ticket: Ticket[T]) -> None:
        """Queues it. A client that is new here has its first turn when all who wait now have had one.

        That keeps a stream of newcomers from pushing anybody back.
        """
        clients = self.clients
        queue = clients.members.get(ticket.client)
        if queue is None:
            account = Account(self._client_quantum_s, self._ticks, round_number=clients.present_round + 1)
            queue = _Queue(account, {})
            clients.join(ticket.client, queue)
        account = queue.account
        group = self.groups.get(ticket.group)
        if group is None:
            group = self.groups[ticket.group] = Ring()
        stack = group.members.get(account)
        if stack is None:
            stack = Stack(self, queue, group)
            group.join(account, stack)
        sequence = next(self._ticks)
        entry = (ticket.deadline_s, sequence)
        queue.push(entry)
        stack.push(entry)
        queue.waiting[sequence] = ticket
        ticket.stack = stack
        ticket.sequence = sequence
        account.queued_cost_s += ticket.cost_s
        self.account.queued_cost_s += ticket.cost_s
        clients.ticket_count += 1
        group.ticket_count += 1

    def remove(self, ticket: Ticket[T], stack: Stack[T]) -> None:
        """Takes a ticket out of its ``stack``, wherever in the queue it is."""
        ticket.stack = None
        queue = stack.client_queue
        del queue.waiting[ticket.sequence]
        self.clients.ticket_count -= 1
        if not self.clients.ticket_count:
            # Nobody waits here, so nobody is owed anything: forget all clients.
            self.clients.clear()
            self.groups.clear()
            self.account.queued_cost_s = 0.0
            stack.ring.ticket_count = 0
            return
        queue.account.queued_cost_s -= ticket.cost_s
        self.account.queued_cost_s -= ticket.cost_s
        queue.count_out()
        if not queue.ticket_count:
            queue.account.queued_cost_s = 0.0  # what rounding left
        stack.count_out()
        stack.ring.ticket_count -= 1
        if not stack.ring.ticket_count:
            del self.groups[ticket.group]

    def before_s(self, client: Hashable, overrun_s: float) -> float:
        """Seconds of this class that run before new work of ``client`` would; an upper estimate.

        A newcomer waits for one turn of each other client, and until one that waits has had what it has queued, each
        of the others may have had as many turns; each may overrun its turns by ``overrun_s``.
        """
        clients = self.clients
        queue = clients.members.get(client)
        own_s, round_count, other_count = 0.0, 1, len(clients.members)
        if queue is not None:
            own_s = queue.account.queued_cost_s
            round_count = queue.account.round_after(own_s) - clients.present_round + 1
            other_count -= 1
        others_s = self.account.queued_cost_s - own_s
        return own_s + min(others_s, other_count * (round_count * self._client_quantum_s + overrun_s))
