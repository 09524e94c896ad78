"""The question that admission is asked for everything that waits for lanes: does it fit in, behind what waits already?

One place for it, so that whatever comes in is foretold alike.
"""

from service.admission import Admission, Demand, Reservation
from service.batcher import Batcher
from service.cost import CostModel
from service.submission import Client
from service.types import ServiceClass


def admitted(
    demand: Demand,
    *,
    admission: Admission,
    batcher: Batcher,
    costs: CostModel,
    client: Client,
    service_class: ServiceClass,
    remaining_s: float,
) -> Reservation:
    """Room for work of lanes.

    Args:
        demand: what it asks for.
        admission, batcher, costs: who decides, and what is known of what waits.
        client, service_class: whose it is: fairness decides what runs before it.
        remaining_s: time until its deadline.

    Raises:
        LaneStuck: no lane works.
        ImageTooLarge, QueueFull, MemoryBudgetExceeded, DeadlineUnreachable: as :meth:`Admission.admit`.
    """
    batcher.require_lane()
    spread = costs.spread()
    # All that waits is more than what runs before it, and is known without looking; mostly that is enough to know.
    backlog_s = batcher.queued_s + batcher.running_s
    if 2 * spread * backlog_s > remaining_s:
        backlog_s = batcher.backlog_s(client, service_class)
    return admission.admit(
        demand, backlog_s=backlog_s, lane_count=batcher.lane_count, remaining_s=remaining_s, spread=spread
    )
