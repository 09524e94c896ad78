"""Tickets for tests and measurements of the scheduler, with defaults for whatever a case does not care about."""

import math
from collections.abc import Hashable, Iterable
from typing import Any

from service.scheduler import Decision, Scheduler, Ticket
from service.types import ServiceClass


def ticket(
    item: int = 0,
    *,
    client: Hashable = "a",
    service_class: ServiceClass = ServiceClass.NORMAL,
    group: Hashable = "g",
    pixel_count: int = 1,
    cost_s: float = 1.0,
    deadline_s: float = math.inf,
    unit_count: int = 1,
) -> Ticket[int]:
    return Ticket(item, client, service_class, group, pixel_count, cost_s, deadline_s, unit_count)


def tickets(count: int, **properties: Any) -> list[Ticket[int]]:
    return [ticket(item, **properties) for item in range(count)]


def loaded(*offers: Iterable[Ticket[int]], quantum_s: float = 1.0) -> Scheduler[int]:
    queue = Scheduler[int](quantum_s=quantum_s)
    for offer in offers:
        queue.offer(offer)
    return queue


def items(decision: Decision[int]) -> list[int]:
    return [each.item for each in decision.batch]
