"""What the scheduler costs: microseconds of CPU an image, alone and with 10^3 to 10^5 tickets queued.

A decision with a queue is: poll one batch, offer as many tickets as it took, ask for one backlog. CPU time of the
thread, the best of several repetitions, so that neighbours on the machine count as little as they can.
"""

import argparse
import gc
import time
from collections.abc import Callable

from service.scheduler import Scheduler, Ticket
from service.types import ServiceClass

_CLASSES = tuple(ServiceClass)
_PIXEL_COUNT = 64 * 64
_CLIENT_COUNTS: dict[str, Callable[[int], int]] = {
    "1": lambda _: 1,
    "100": lambda _: 100,
    "one for each ticket": lambda queued_count: queued_count,
}


def _deadline_s(number: int) -> float:
    """In no order: multiples of a number without a common factor, in the ring of a prime."""
    return 1e6 + number * 7919 % 1_000_003


def _ticket(number: int, client_count: int) -> Ticket[int]:
    cost_s = 160e-6 * (1 + number % 7)
    client = number * 31 % client_count
    return Ticket(number, client, _CLASSES[number % 3], number % 4, _PIXEL_COUNT, cost_s, _deadline_s(number))


def _another(ran: Ticket[int], number: int) -> Ticket[int]:
    """Like one that ran, so that what is queued stays the same mixture."""
    return Ticket(number, ran.client, ran.service_class, ran.group, ran.pixel_count, ran.cost_s, _deadline_s(number))


def _alone_us(repeat_count: int) -> float:
    """One ticket made, offered to an empty queue and polled."""
    queue = Scheduler[int]()
    best_ns, turn_count = float("inf"), 20_000
    for _ in range(repeat_count):
        began_ns = time.thread_time_ns()
        for _ in range(turn_count):
            queue.offer((Ticket(0, "client", ServiceClass.NORMAL, "group", _PIXEL_COUNT, 160e-6, 1e9),))
            queue.poll(0.0, batch_pixel_count=16 * _PIXEL_COUNT)
        best_ns = min(best_ns, time.thread_time_ns() - began_ns)
    return best_ns / turn_count / 1000


def _queued_us(queued_count: int, client_count: int, batch_ticket_count: int, repeat_count: int) -> tuple[float, float]:
    """(microseconds a decision, microseconds a ticket) with a queue that stays as long as it is."""
    queue = Scheduler[int]()
    queue.offer(_ticket(number, client_count) for number in range(queued_count))
    number = queued_count
    decision_count = max(200, 4_000 // batch_ticket_count)
    best_ns, best_ticket_count = float("inf"), 1
    for _ in range(repeat_count):
        ran_count = 0
        began_ns = time.thread_time_ns()
        for _ in range(decision_count):
            batch = queue.poll(0.0, batch_pixel_count=_PIXEL_COUNT * batch_ticket_count).batch
            queue.offer([_another(ran, number + place) for place, ran in enumerate(batch)])
            queue.backlog_s(number % client_count, ServiceClass.NORMAL)
            number += len(batch)
            ran_count += len(batch)
        elapsed_ns = time.thread_time_ns() - began_ns
        if elapsed_ns < best_ns:
            best_ns, best_ticket_count = elapsed_ns, ran_count
    return best_ns / decision_count / 1000, best_ns / best_ticket_count / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; the best counts (default: 5)")
    repeat_count = parser.parse_args().repeat
    gc.disable()  # a collection walks all that is queued; it is the scheduler that is measured here
    print(f"offer and poll, empty queue: {_alone_us(repeat_count):.1f} us")
    print()
    print("| queued | clients | batch | us a decision | us a ticket |")
    print("|---|---|---|---|---|")
    for label, client_count in _CLIENT_COUNTS.items():
        for batch_ticket_count in (1, 16):
            for queued_count in (1_000, 10_000, 100_000):
                decision_us, ticket_us = _queued_us(
                    queued_count, client_count(queued_count), batch_ticket_count, repeat_count
                )
                print(f"| {queued_count:,} | {label} | {batch_ticket_count} | {decision_us:.1f} | {ticket_us:.1f} |")


if __name__ == "__main__":
    main()
