"""Decides which units run next. Pure: no clock, no asyncio, no I/O; every decision is a function of (state, now).

Two levels of deficit round robin (:mod:`service.fairness`) in predicted seconds of work: classes by weight, never by
strict priority, and inside a class all clients alike. Inside a client: earliest deadline first.

A batch holds units of one group (same model, same shape), because only those can be stacked. The ticket whose turn it
is decides the group; the rest is filled in the order of turns from whoever has tickets of that group. Filling is
charged like anything else, and nobody gets ahead of its turn by more than one batch.

Fairness, with Q the quantum and D the larger of the largest ticket's cost and the largest batch's worth (the opening
ticket's cost times the tickets that the batch might have held): over any interval in which two clients of one class
both wait, what they got differs by at most 2 (Q + D); by at most Q + D from the moment when both were new to a round
under way. For classes 2 (Q + D / w) holds of what each got divided by its weight, w being the smaller weight.
The reason: nobody who waits is behind the beginning of the present round, nor more than Q + D past it.

Operations are logarithmic in the number of queued tickets, amortised: what a discarded ticket leaves behind is dropped
when it surfaces or outnumbers those who wait.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from types import MappingProxyType
from typing import Generic, TypeVar

from service.backlog import ClassBacklog, GroupRing, Ticket
from service.types import ServiceClass

__all__ = ["DEFAULT_QUANTUM_S", "DEFAULT_WEIGHTS", "Decision", "Scheduler", "Ticket"]

T = TypeVar("T")

DEFAULT_WEIGHTS: Mapping[ServiceClass, float] = MappingProxyType(
    {ServiceClass.INTERACTIVE: 8.0, ServiceClass.NORMAL: 3.0, ServiceClass.BULK: 1.0}
)
DEFAULT_QUANTUM_S = 0.010


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What to do now: run ``batch`` (empty when nothing is queued and alive), refuse ``expired``."""

    batch: Sequence[Ticket[T]]
    expired: Sequence[Ticket[T]]


class Scheduler(Generic[T]):
    """Fair queue of tickets. Owned by one thread. Refuses nothing: admission bounds what comes in.

    Attributes:
        queued_ticket_count, queued_unit_count, queued_pixel_count: what waits now.
    """

    def __init__(
        self, *, quantum_s: float = DEFAULT_QUANTUM_S, weights: Mapping[ServiceClass, float] = DEFAULT_WEIGHTS
    ) -> None:
        """A client may have ``quantum_s`` seconds of work in each round of its class, a class that times its weight.

        Raises:
            ValueError: the quantum or a weight is not positive and finite, or a class has no weight.
        """
        if not 0.0 < quantum_s < inf:
            raise ValueError(f"the quantum is {quantum_s} s; choose a positive, finite time")
        for service_class in ServiceClass:
            if not 0.0 < weights.get(service_class, 0.0) < inf:
                raise ValueError(
                    f"class {service_class.value} has weight {weights.get(service_class)}; "
                    "give each class a positive, finite weight"
                )
        ticks = count()
        self._by_class = {
            service_class: ClassBacklog[T](weight=weights[service_class], quantum_s=quantum_s, ticks=ticks)
            for service_class in ServiceClass
        }
        # In a round the more urgent class goes first.
        self._classes = tuple(self._by_class.values())
        self._overrun_s = 0.0
        self.queued_ticket_count = 0
        self.queued_unit_count = 0
        self.queued_pixel_count = 0

    @property
    def queued_cost_s(self) -> float:
        """Predicted seconds of one core's lane."""
        return sum(each.account.queued_cost_s for each in self._classes)

    def offer(self, tickets: Iterable[Ticket[T]]) -> None:
        """Queues them.

        Raises:
            ValueError: one of them is queued already; those before it are queued now.
        """
        for ticket in tickets:
            if ticket.is_queued:
                raise ValueError(f"{ticket} is queued already; offer it again when it has left")
            backlog = self._by_class[ticket.service_class]
            if self.queued_ticket_count and not backlog.clients.ticket_count:
                # A class that was idle joins the round that the others are in, and is owed nothing of earlier ones.
                backlog.account.advance_to(self._first_class().account.round_number)
            backlog.add(ticket)
            self.queued_ticket_count += 1
            self.queued_unit_count += ticket.unit_count
            self.queued_pixel_count += ticket.pixel_count
            self._overrun_s = max(self._overrun_s, ticket.cost_s)

    def discard(self, tickets: Iterable[Ticket[T]]) -> None:
        """Takes tickets back; those that have left the queue are ignored."""
        for ticket in tickets:
            if ticket.is_queued:
                self._leave(ticket)

    def poll(self, now_s: float, *, batch_pixel_count: int, batch_unit_count: int | None = None) -> Decision[T]:
        """Takes the next batch out of the queue: at least one ticket when one is queued and alive.

        Deadlines are looked at when a ticket is about to leave. One that has passed expires. One that can't be met any
        more by the ticket's predicted cost expires too, unless nothing else could run now: then it delays nobody, and
        a prediction that is too high is corrected by running something and by nothing else.

        Args:
            now_s: the present, on the clock of the deadlines.
            batch_pixel_count: a batch holds no more than this, except that one ticket always fits.
            batch_unit_count: nor more units than this, with the same exception; None for any number.
        """
        expired: list[Ticket[T]] = []
        predicted_late: int | None = None
        while self.queued_ticket_count:
            first = self._first_class().clients.first().head()
            if _is_late(first, now_s):
                if first.deadline_s > now_s:
                    predicted_late = len(expired)
                self._leave(first)
                expired.append(first)
                continue
            ticket_count = batch_pixel_count // first.pixel_count
            if batch_unit_count is not None:
                ticket_count = min(ticket_count, batch_unit_count // first.unit_count)
            if ticket_count > 1 and self.queued_ticket_count > 1:
                budget = (batch_pixel_count, inf if batch_unit_count is None else batch_unit_count)
                return Decision(self._batch(first, ticket_count, budget, now_s, expired), expired)
            self._run(first)
            return Decision((first,), expired)
        if predicted_late is not None:
            # The queue is empty, so that nothing is left that it could be charged against.
            return Decision((expired.pop(predicted_late),), expired)
        return Decision((), expired)

    def queued_by_client_s(self) -> dict[Hashable, float]:
        """Predicted seconds of each client that waits, over all classes. Costs as much as there are clients."""
        queued_s: dict[Hashable, float] = {}
        for each in self._classes:
            for client, queue in each.clients.members.items():
                if queue.ticket_count:
                    queued_s[client] = queued_s.get(client, 0.0) + queue.account.queued_cost_s
        return queued_s

    def backlog_s(self, client: Hashable, service_class: ServiceClass) -> float:
        """Seconds of queued work that would run before work that ``client`` offered now; an upper estimate.

        All that it has queued itself, and what its class and the others may have meanwhile: never more than is
        queued. Work that arrives later and lanes that run side by side are not counted.
        """
        if not self.queued_ticket_count:
            return 0.0
        own = self._by_class[service_class]
        present_round = self._first_class().account.round_number
        before_s = own.before_s(client, self._overrun_s)
        round_count = max(own.account.round_after(before_s), present_round) - present_round + 1
        for each in self._classes:
            if each is not own and each.clients.ticket_count:
                account = each.account
                before_s += min(account.queued_cost_s, round_count * account.quantum_s + self._overrun_s)
        return before_s

    def _first_class(self) -> ClassBacklog[T]:
        """The class whose turn it is. The caller knows that somebody waits."""
        first: ClassBacklog[T] | None = None
        for each in self._classes:
            if each.clients.ticket_count and (first is None or each.account.round_number < first.account.round_number):
                first = each
        assert first is not None
        return first

    def _batch(
        self,
        first: Ticket[T],
        ticket_count: int,
        budget: tuple[int, float],
        now_s: float,
        expired: list[Ticket[T]],
    ) -> list[Ticket[T]]:
        """Runs ``first`` and fills its batch in the order of turns with tickets of its group.

        ``ticket_count`` is what the batch would hold if all were as large as the first; the budget is in pixels and
        units.

        A class or a client stops filling where it would be more than the batch's worth past its quantum of the
        present round. The batch ends as a whole, so it stops growing where it would end after a member's deadline.
        """
        present_round = self._first_class().account.round_number
        worth_s = first.cost_s * ticket_count
        self._overrun_s = max(self._overrun_s, worth_s)
        sources = [(each, group) for each in self._classes if (group := each.groups.get(first.group)) is not None]
        self._run(first)
        batch = [first]
        pixel_count, unit_count = budget[0] - first.pixel_count, budget[1] - first.unit_count
        ends_s, deadline_s = now_s + first.cost_s, first.deadline_s
        while len(batch) < ticket_count and sources:
            source = min(sources, key=_round_of_source)
            backlog, group = source
            if not group.ticket_count:
                sources.remove(source)
                continue
            stack = group.first()
            ticket = stack.head()
            if _is_late(ticket, now_s):
                self._leave(ticket)
                expired.append(ticket)
                continue
            if not (
                backlog.account.may_take(ticket.cost_s, present_round, worth_s)
                and stack.account.may_take(ticket.cost_s, backlog.clients.first().account.round_number, worth_s)
            ):
                sources.remove(source)
                continue
            ends_s += ticket.cost_s
            deadline_s = min(deadline_s, ticket.deadline_s)
            pixel_count -= ticket.pixel_count
            unit_count -= ticket.unit_count
            if ends_s > deadline_s or pixel_count < 0 or unit_count < 0:
                break
            self._run(ticket)
            batch.append(ticket)
        return batch

    def _run(self, ticket: Ticket[T]) -> None:
        """Takes it out for a batch; its client and its class pay for it."""
        assert ticket.stack is not None
        ticket.stack.charge(ticket.cost_s)
        self._leave(ticket)

    def _leave(self, ticket: Ticket[T]) -> None:
        assert ticket.stack is not None
        ticket.stack.backlog.remove(ticket, ticket.stack)
        self.queued_pixel_count -= ticket.pixel_count
        self.queued_ticket_count -= 1
        self.queued_unit_count -= ticket.unit_count
        if not self.queued_ticket_count:
            # Nobody waits, so no class is owed anything.
            self._overrun_s = 0.0
            for each in self._classes:
                each.account.reset()


def _is_late(ticket: Ticket[T], now_s: float) -> bool:
    return ticket.deadline_s <= now_s or ticket.deadline_s < now_s + ticket.cost_s


def _round_of_source(source: tuple[ClassBacklog[T], GroupRing[T]]) -> int:
    return source[0].account.round_number
