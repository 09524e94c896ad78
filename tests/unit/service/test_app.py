"""What the composition root derives from the settings."""

import pytest

from service.app import channel_options
from service.settings import Settings


@pytest.mark.parametrize("longest_timeout_s", [60.0, 3600.0])
def test_an_old_connection_is_kept_until_every_call_on_it_can_have_ended(longest_timeout_s: float) -> None:
    """However short the drain is, a call that began just before must not be cut before its own deadline."""
    options = dict(channel_options(Settings(longest_timeout_s=longest_timeout_s, drain_timeout_s=1.0)))
    assert options["grpc.max_connection_age_grace_ms"] > 1000 * longest_timeout_s
