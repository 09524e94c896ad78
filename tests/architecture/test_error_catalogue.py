"""Every reason that a client can see is provoked by a test, which is named here and says it."""

from pathlib import Path

import pytest

from service.errors import all_reasons, error_of
from tests.architecture.sources import sources_of

_ROOT = Path(__file__).parents[2]
_LIVE = "tests/integration"
_UNIT = "tests/unit/service"
_BAD_REQUEST = (_LIVE, "test_bad_input.py", "test_a_bad_request_is_refused_while_another_client_is_answered")

# One test each; of those that a running service can be brought to give, one with a running service.
PROVOKED = {
    "CANCELLED": (_LIVE, "test_stream.py", "test_an_item_is_taken_back_and_the_others_stay"),
    "CAPABILITY_MISSING": (_LIVE, "test_kinds.py", "test_a_model_that_is_not_made_for_denoising_refuses_it"),
    "CHUNKS_INVALID": (_LIVE, "test_chunks.py", "test_a_chunk_after_the_last_one_is_refused"),
    "CLIENT_GONE": (_UNIT, "test_stream.py", "test_a_wire_that_breaks_ends_the_call_and_stops_its_items"),
    "CLIENT_QUOTA": (_LIVE, "test_callers.py", "test_a_quota_that_is_used_up_refuses_and_says_when_to_come_back"),
    "DEADLINE_EXCEEDED": (
        _LIVE,
        "test_limits.py",
        "test_a_deadline_that_has_passed_on_arrival_is_exceeded_not_unreachable",
    ),
    "DEADLINE_UNREACHABLE": (
        _LIVE,
        "test_limits.py",
        "test_what_can_not_be_done_in_time_is_refused_at_once_and_what_waits_is_answered",
    ),
    "DRAINING": (
        _UNIT,
        "test_stream.py",
        "test_while_the_service_drains_new_items_are_refused_and_running_ones_answered",
    ),
    "ENGINE_STUCK": (
        _UNIT,
        "test_batcher_departures.py",
        "test_when_every_lane_hangs_what_waits_and_what_comes_is_told_to_go_elsewhere",
    ),
    "IMAGE_TOO_LARGE": (_LIVE, "test_bad_input.py", "test_an_answer_that_no_message_holds_is_refused_with_the_remedy"),
    "IMAGE_UNDECODABLE": (_LIVE, "test_stream.py", "test_a_bad_item_fails_alone"),
    "IMAGE_UNSUPPORTED": (_LIVE, "test_kinds.py", "test_another_size_is_refused_with_both_sizes_and_the_remedy"),
    "INTERNAL": (_UNIT, "test_status.py", "test_an_unknown_failure_is_counted_as_internal_and_logged_with_its_cause"),
    "LATENT_INVALID": (f"{_UNIT}/latent", "test_prior.py", "test_numbers_that_are_none_are_refused_and_pointed_at"),
    "LATENT_OUT_OF_DISTRIBUTION": (
        f"{_UNIT}/latent",
        "test_prior.py",
        "test_a_code_beyond_the_limit_is_refused_with_its_distance_and_the_remedy",
    ),
    "MEMORY_BUDGET": (_LIVE, "test_limits.py", "test_memory_too_much_is_refused_and_what_fits_is_answered"),
    "MESSAGE_INVALID": (_UNIT, "test_stream.py", "test_an_item_whose_request_alone_is_malformed_fails_alone"),
    "MODEL_FAILED": (_UNIT, "test_batcher.py", "test_a_poisoned_unit_of_a_pack_fails_alone"),
    "MODEL_UNKNOWN": (_LIVE, "test_health_and_metrics.py", "test_a_model_that_is_not_loaded_is_not_found"),
    "NETWORK_HUNG": (
        _UNIT,
        "test_batcher_departures.py",
        "test_an_image_that_hung_a_lane_is_not_asked_to_come_again_and_drops_its_other_units",
    ),
    "NONFINITE_OUTPUT": (_UNIT, "test_batcher.py", "test_an_image_that_can_not_be_read_or_written_fails_alone"),
    "NOT_READY": (_LIVE, "test_start.py", "test_a_call_before_that_is_told_to_come_back"),
    "OPTION_INVALID": (_LIVE, "test_bad_input.py", "test_a_batch_of_a_wrong_length_is_refused_as_a_whole"),
    "QUEUE_FULL": (_LIVE, "test_limits.py", "test_an_image_too_many_is_refused_and_those_before_it_are_answered"),
    "SAMPLES_INVALID": _BAD_REQUEST,
    "UNAUTHENTICATED": (_LIVE, "test_callers.py", "test_every_method_refuses_who_has_none"),
}
# Where a test's cases lie beside it.
CASES = {_BAD_REQUEST: "tests/integration/bad_requests.py"}


def test_every_reason_has_its_test() -> None:
    assert set(PROVOKED) == set(all_reasons())


@pytest.mark.parametrize("reason", sorted(PROVOKED))
def test_that_test_is_there_and_speaks_of_the_reason(reason: str) -> None:
    folder, file, name = PROVOKED[reason]
    tests = sources_of(_ROOT / folder / file)
    assert name in tests
    cases = CASES.get(PROVOKED[reason])
    text = tests[name] if cases is None else (_ROOT / cases).read_text(encoding="utf-8")
    assert f'"{reason}"' in text or error_of(reason).__name__ in text
