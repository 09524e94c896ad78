"""Decides which units run next. Pure: no clock, no asyncio, no I/O; every decision is a function of (state, now).

Between clients: start-time fair queueing (Goyal, Vin, Cheng, IEEE/ACM ToN 5(5), 1997). Each client has a virtual
time that advances by the cost of what it got; the client that is furthest behind goes next, and one that was
idle starts at the present, so it can neither save up credit nor starve. Inside a client: earliest deadline first.

A batch holds units of one group (same model, same shape), because only those can be stacked. The fairest ticket
decides the group; the rest is filled in the same order from the clients that have tickets of that group.

All operations are logarithmic in the number of queued tickets; discarded tickets are skipped when they surface.
"""

import heapq
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class TicketsRefused(Exception):
    """The queue can't hold them now; nothing was queued."""

    def __init__(self, *, queued_pixel_count: int, offered_pixel_count: int, limit_pixel_count: int) -> None:
        super().__init__(
            f"{queued_pixel_count} pixels are queued and {offered_pixel_count} were offered; "
            f"the limit is {limit_pixel_count}"
        )


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """One unit of work.

    Attributes:
        item: what the engine needs; the scheduler never looks inside.
        client: whose share it is charged to.
        group: units of equal groups can share a batch.
        pixel_count: its cost.
        deadline_s: absolute, on the caller's monotonic clock.
        slot: the scheduler's own; set while the ticket is queued.
    """

    item: T
    client: Hashable
    group: Hashable
    pixel_count: int
    deadline_s: float
    slot: "Slot[T] | None" = field(default=None, init=False, repr=False)

    @property
    def is_queued(self) -> bool:
        return self.slot is not None


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What to do now: run ``batch`` (empty when nothing is queued), refuse ``expired``."""

    batch: Sequence[Ticket[T]]
    expired: Sequence[Ticket[T]]


@dataclass(slots=True, eq=False)
class Slot(Generic[T]):
    """A ticket's place in the heaps; emptied when it leaves, so that what stays behind holds no image."""

    ticket: Ticket[T] | None


class _TicketHeap(Generic[T]):
    """Tickets by deadline, then by arrival. Those that left are dropped when they surface or outnumber the rest."""

    _COMPACT_FROM_COUNT = 64

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Slot[T]]] = []
        self.live_count = 0

    def push(self, deadline_s: float, sequence: int, slot: Slot[T]) -> None:
        self.live_count += 1
        if len(self._entries) > max(self._COMPACT_FROM_COUNT, 2 * self.live_count):
            self._entries = [entry for entry in self._entries if entry[2].ticket is not None]
            heapq.heapify(self._entries)
        heapq.heappush(self._entries, (deadline_s, sequence, slot))

    def head(self) -> Ticket[T] | None:
        while self._entries and self._entries[0][2].ticket is None:
            heapq.heappop(self._entries)
        return self._entries[0][2].ticket if self._entries else None


class _Client(Generic[T]):
    """One client's tickets and how much it has been served."""

    def __init__(self, virtual_time: float) -> None:
        self.virtual_time = virtual_time
        self.tickets = _TicketHeap[T]()
        self.tickets_by_group: dict[Hashable, _TicketHeap[T]] = {}

    def heap(self, group: Hashable | None) -> _TicketHeap[T]:
        return self.tickets if group is None else self.tickets_by_group[group]


class _ClientOrder(Generic[T]):
    """Clients by virtual time, those that are furthest behind first.

    A client's virtual time only grows, so an entry that is out of date surfaces too early and is put back.
    """

    def __init__(self, group: Hashable | None) -> None:
        self._group = group
        self._entries: list[tuple[float, int, _Client[T]]] = []
        self._members: set[_Client[T]] = set()
        self._compact_at_count = 64

    def add(self, client: _Client[T], sequence: int) -> None:
        if client in self._members:
            return
        if len(self._entries) >= self._compact_at_count:
            self._entries = [entry for entry in self._entries if entry[2].heap(self._group).live_count]
            heapq.heapify(self._entries)
            self._members = {entry[2] for entry in self._entries}
            self._compact_at_count = max(64, 2 * len(self._entries))
        self._members.add(client)
        heapq.heappush(self._entries, (client.virtual_time, sequence, client))

    def first(self) -> _Client[T] | None:
        """The first client that has a ticket, or None."""
        while self._entries:
            virtual_time, sequence, client = self._entries[0]
            if client.heap(self._group).head() is None:
                heapq.heappop(self._entries)
                self._members.discard(client)
            elif virtual_time < client.virtual_time:
                heapq.heapreplace(self._entries, (client.virtual_time, sequence, client))
            else:
                return client
        return None


class Scheduler(Generic[T]):
    """Bounded, fair queue of tickets. Owned by one thread."""

    def __init__(self, *, limit_pixel_count: int) -> None:
        self._limit_pixel_count = limit_pixel_count
        self._sequence = 0
        self._virtual_time = 0.0
        self._clients: dict[Hashable, _Client[T]] = {}
        self._forget_at_count = 64
        self._order = _ClientOrder[T](group=None)
        self._group_orders: dict[Hashable, _ClientOrder[T]] = {}
        self._tickets = _TicketHeap[T]()
        self.queued_pixel_count = 0

    @property
    def queued_ticket_count(self) -> int:
        return self._tickets.live_count

    def offer(self, tickets: Sequence[Ticket[T]]) -> None:
        """Queues all of them or none. An empty queue takes anything, so that nothing is refused for ever.

        Raises:
            TicketsRefused: the queue would hold more than its limit.
        """
        offered = sum(ticket.pixel_count for ticket in tickets)
        if self.queued_pixel_count and self.queued_pixel_count + offered > self._limit_pixel_count:
            raise TicketsRefused(
                queued_pixel_count=self.queued_pixel_count,
                offered_pixel_count=offered,
                limit_pixel_count=self._limit_pixel_count,
            )
        for ticket in tickets:
            self._enqueue(ticket)

    def discard(self, tickets: Iterable[Ticket[T]]) -> None:
        """Takes tickets back; those that have left the queue are ignored."""
        for ticket in tickets:
            if ticket.is_queued:
                self._leave(ticket)

    def poll(self, now_s: float, *, batch_pixel_count: int) -> Decision[T]:
        """Takes the next batch out of the queue: at least one ticket when there is one.

        Args:
            now_s: the present, on the clock of the deadlines.
            batch_pixel_count: a batch holds no more than this, except that one ticket always fits.
        """
        expired = self._expire(now_s)
        client = self._order.first()
        if client is None:
            # Nobody waits, so nobody is owed anything: forget all clients.
            self._clients.clear()
            self._group_orders.clear()
            return Decision((), expired)
        self._virtual_time = max(self._virtual_time, client.virtual_time)
        first = client.tickets.head()
        assert first is not None
        batch = [self._take(first)]
        remaining = batch_pixel_count - first.pixel_count
        order = self._group_orders[first.group]
        while remaining >= first.pixel_count and (client := order.first()) is not None:
            ticket = client.tickets_by_group[first.group].head()
            assert ticket is not None
            lead = client.virtual_time + ticket.pixel_count - self._virtual_time
            if ticket.pixel_count > remaining or lead > batch_pixel_count:
                break
            batch.append(self._take(ticket))
            remaining -= ticket.pixel_count
        # The present follows those who still wait, not those who were just served: else a stream of newcomers
        # would hold it back, and with it whoever waits.
        if (client := self._order.first()) is not None:
            self._virtual_time = max(self._virtual_time, client.virtual_time)
        return Decision(batch, expired)

    def _enqueue(self, ticket: Ticket[T]) -> None:
        self._sequence += 1
        client = self._clients.get(ticket.client)
        if client is None:
            self._forget_idle_clients()
            client = self._clients[ticket.client] = _Client[T](self._virtual_time)
        if client.tickets.live_count == 0:
            client.virtual_time = max(client.virtual_time, self._virtual_time)
        ticket.slot = slot = Slot(ticket)
        by_group = client.tickets_by_group.setdefault(ticket.group, _TicketHeap())
        for heap in (client.tickets, by_group, self._tickets):
            heap.push(ticket.deadline_s, self._sequence, slot)
        self._order.add(client, self._sequence)
        self._group_orders.setdefault(ticket.group, _ClientOrder(ticket.group)).add(client, self._sequence)
        self.queued_pixel_count += ticket.pixel_count

    def _take(self, ticket: Ticket[T]) -> Ticket[T]:
        """Removes a ticket for running and charges its client."""
        self._clients[ticket.client].virtual_time += ticket.pixel_count
        self._leave(ticket)
        return ticket

    def _leave(self, ticket: Ticket[T]) -> None:
        assert ticket.slot is not None
        ticket.slot.ticket = None
        ticket.slot = None
        client = self._clients[ticket.client]
        for heap in (client.tickets, client.tickets_by_group[ticket.group], self._tickets):
            heap.live_count -= 1
        self.queued_pixel_count -= ticket.pixel_count

    def _forget_idle_clients(self) -> None:
        """Drops clients without tickets that are not ahead of the others, so that state follows those who wait.

        Amortised: runs when their number has doubled.
        """
        if len(self._clients) < self._forget_at_count:
            return
        self._clients = {
            key: client
            for key, client in self._clients.items()
            if client.tickets.live_count or client.virtual_time > self._virtual_time
        }
        self._forget_at_count = max(64, 2 * len(self._clients))

    def _expire(self, now_s: float) -> list[Ticket[T]]:
        expired = []
        while (ticket := self._tickets.head()) is not None and ticket.deadline_s <= now_s:
            self._leave(ticket)
            expired.append(ticket)
        return expired
