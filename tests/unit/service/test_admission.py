"""Admission: who is refused with which numbers, and that the ledger always returns to nothing."""

import re
from contextlib import AbstractContextManager, ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.admission import Admission, Limits
from service.errors import DeadlineUnreachable, ImageTooLarge, MemoryBudgetExceeded, Overloaded, QueueFull
from service.metrics import Metrics
from service.types import Container, ImageHeader

GENEROUS = Limits(image_pixels=10**9, requests=10**9, memory_bytes=10**12)


def header(height_px: int = 10, width_px: int = 20, *, channels: int = 3, bits: int = 8) -> ImageHeader:
    return ImageHeader(Container.PNG, height_px, width_px, channels, bits)


def admission(limits: Limits = GENEROUS, registry: CollectorRegistry | None = None) -> Admission:
    return Admission(limits, Metrics(registry or CollectorRegistry()))


def reserve(
    to: Admission,
    image: ImageHeader | None = None,
    *,
    encoded_bytes: int = 100,
    wait_s: float = 0.0,
    remaining_s: float = 30.0,
) -> AbstractContextManager[None]:
    return to.reserve(image or header(), encoded_bytes=encoded_bytes, wait_s=wait_s, remaining_s=remaining_s)


def test_an_image_of_the_largest_size_passes_and_one_pixel_more_is_refused_with_both_numbers() -> None:
    desk = admission(Limits(image_pixels=200, requests=1, memory_bytes=1))
    desk.check_size(header(10, 20))
    with pytest.raises(ImageTooLarge, match=r"67 x 3 px are 201 pixels, the limit is 200"):
        desk.check_size(header(3, 67))


def test_the_ledger_holds_file_image_answer_and_answers_file() -> None:
    desk = admission()
    with reserve(desk, header(10, 20, channels=4, bits=16), encoded_bytes=500):
        assert (desk.request_count, desk.reserved_bytes) == (1, 2 * 500 + 2 * 10 * 20 * 4 * 2)
    assert (desk.request_count, desk.reserved_bytes) == (0, 0)


def test_one_image_too_many_is_refused_with_the_count_and_the_limit() -> None:
    desk = admission(Limits(image_pixels=1000, requests=2, memory_bytes=10**9))
    with reserve(desk), reserve(desk):
        with (
            pytest.raises(QueueFull, match=r"2 images are in the service; the limit is 2; .*another replica"),
            reserve(desk),
        ):
            pass
        assert desk.request_count == 2
    with reserve(desk):
        assert desk.request_count == 1


def test_memory_is_refused_with_need_taken_and_limit() -> None:
    desk = admission(Limits(image_pixels=1000, requests=9, memory_bytes=2800))
    with reserve(desk):  # 2 * 100 + 2 * 600
        with reserve(desk):
            assert desk.reserved_bytes == 2800, "exactly full is not too full"
        message = "the image needs 1402 bytes and 1400 of 2800 are taken"
        with pytest.raises(MemoryBudgetExceeded, match=message), reserve(desk, encoded_bytes=101):
            pass


def test_one_image_always_fits_when_there_is_no_other() -> None:
    """Else an image that the policy allows would be told to come back for ever."""
    desk = admission(Limits(image_pixels=10**9, requests=1, memory_bytes=1))
    with reserve(desk, header(10_000, 10_000)):
        assert desk.reserved_bytes > 1


def test_an_image_that_cannot_be_done_in_time_is_refused_with_both_times() -> None:
    desk = admission()
    message = r"would be done in about 21\.0 s and its deadline is in 10\.0 s; allow more time"
    with pytest.raises(DeadlineUnreachable, match=message) as raised, reserve(desk, wait_s=21.0, remaining_s=10.0):
        pass
    assert raised.value.retry_after_s == pytest.approx(10.5)
    with reserve(desk, wait_s=20.0, remaining_s=10.0):
        assert desk.request_count == 1, "the prediction is an upper bound, so only the unreachable is refused"


def test_limits_are_looked_at_in_the_order_that_is_promised() -> None:
    desk = admission(Limits(image_pixels=1000, requests=1, memory_bytes=1))
    with reserve(desk), pytest.raises(QueueFull), reserve(desk, wait_s=1e9, remaining_s=1):
        pass
    desk = admission(Limits(image_pixels=1000, requests=2, memory_bytes=1))
    with reserve(desk), pytest.raises(MemoryBudgetExceeded), reserve(desk, wait_s=1e9, remaining_s=1):
        pass


@pytest.mark.parametrize(("wait_s", "retry_after_s"), [(0.0, 0.5), (0.9, 0.5), (8.0, 4.0)])
def test_a_refusal_says_when_to_come_back(wait_s: float, retry_after_s: float) -> None:
    desk = admission(Limits(image_pixels=1000, requests=1, memory_bytes=10**6))
    with reserve(desk), pytest.raises(Overloaded) as raised, reserve(desk, wait_s=wait_s):
        pass
    assert raised.value.retry_after_s == retry_after_s


def test_an_error_inside_gives_the_room_back() -> None:
    desk = admission()
    with pytest.raises(ZeroDivisionError), reserve(desk):
        raise ZeroDivisionError
    assert (desk.request_count, desk.reserved_bytes) == (0, 0)


def test_the_gauges_follow_the_ledger() -> None:
    registry = CollectorRegistry()
    desk = admission(registry=registry)

    def gauges() -> tuple[float | None, float | None]:
        return tuple(map(registry.get_sample_value, ("denoised_admitted_images", "denoised_reserved_bytes")))  # type: ignore[return-value]  # two names give two values

    with reserve(desk):
        assert gauges() == (1, 1400)
    assert gauges() == (0, 0)


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 3000), st.sampled_from([0.0, 5.0, 100.0]), st.booleans()),
        max_size=30,
    )
)
def test_whatever_comes_the_ledger_keeps_its_limits_and_returns_to_nothing(
    arrivals: list[tuple[int, int, float, bool]],
) -> None:
    limits = Limits(image_pixels=10_000, requests=4, memory_bytes=20_000)
    desk = admission(limits)
    with ExitStack() as inside:
        for side_px, encoded_bytes, wait_s, everyone_leaves in arrivals:
            if everyone_leaves:
                inside.close()
                assert (desk.request_count, desk.reserved_bytes) == (0, 0)
            was_empty = desk.request_count == 0
            refusal = _refusal(
                inside, reserve(desk, header(side_px, side_px), encoded_bytes=encoded_bytes, wait_s=wait_s)
            )
            if refusal is not None:
                assert refusal.retry_after_s > 0
                assert re.search(r"\d.*; .*send", str(refusal)), "value, limit and remedy"
                assert not was_empty or isinstance(refusal, DeadlineUnreachable)
            assert desk.request_count <= limits.requests
            assert desk.request_count <= 1 or desk.reserved_bytes <= limits.memory_bytes
    assert (desk.request_count, desk.reserved_bytes) == (0, 0)


def _refusal(inside: ExitStack, room: AbstractContextManager[None]) -> Overloaded | None:
    """Takes the room until ``inside`` closes, or says why not."""
    try:
        inside.enter_context(room)
    except Overloaded as error:
        return error
    return None
