"""Three replicas behind round_robin, taken away in turn under load: a short form of tests/load/rolling.py."""

import pytest

from tests.load.rolling import Fault, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", ["restart", "kill"])
async def test_clients_with_defaults_lose_nothing_while_every_replica_has_its_turn(fault: Fault) -> None:
    result = await run(fault, request_count=300, caller_count=4, stop_s=0.0)

    assert result.errors == {}
    assert result.wrong_count == 0
    assert result.answered_count >= 300
    assert result.faults == 3


async def test_a_replica_that_stands_still_delays_its_calls_and_loses_none() -> None:
    result = await run("stop", request_count=300, caller_count=4, stop_s=2.0)

    assert result.is_whole, result
    assert result.faults == 1
