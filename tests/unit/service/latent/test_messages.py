"""Requests with codes: what follows from them, and what is refused before any work, by field, value and limit."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denoised.contract import ModelContract, SampleLevels
from denoised.v1 import denoised_pb2 as pb
from service.engine import OnnxEngine
from service.errors import (
    CapabilityMissing,
    ImageTooLarge,
    InvalidArgument,
    InvalidLatent,
    LatentOutOfDistribution,
    ModelUnknown,
)
from service.latent.draws import MOST_SEED
from service.latent.messages import Limits, Requests
from service.registry import Model, Registry
from service.types import Container, ServiceClass
from tests.unit.service.denoiser_bench import noise, png
from tests.unit.service.latent.coder_bench import LENGTH, SIDE_PX

LIMITS = Limits(message_bytes=100_000, generated_image_count=16, interpolation_step_count=12)
# The contract does not change between examples.
same_model = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def requests(vae: ModelContract, contract: ModelContract) -> Requests:
    plain = replace(vae, name="plain", kind="conv_ae", capabilities=("denoise", "encode", "decode"))
    encoder = replace(vae, name="encoder", kind="conv_ae", capabilities=("encode",))
    decoder = replace(vae, name="decoder", kind="conv_ae", capabilities=("decode",))
    deep = replace(vae, name="deep", levels=SampleLevels("u16", 64.0, 4095.0))
    models = [Model(each, "d", cast("OnnxEngine", None)) for each in (vae, plain, encoder, decoder, deep, contract)]
    registry = Registry(models, default_name="digits")
    return Requests(registry=lambda: registry, limits=LIMITS)


def options(model: str) -> pb.LatentOptions:
    return pb.LatentOptions(model=model)


def raw(seed: int = 0, *, side_px: int = SIDE_PX, channels: int = 1, **fields: Any) -> pb.Image:
    samples = noise((side_px, side_px, channels), seed=seed)
    return pb.Image(
        raw=pb.RawImage(
            data=samples.tobytes(),
            sample_type=pb.SAMPLE_TYPE_U8,
            height_px=side_px,
            width_px=side_px,
            channel_count=channels,
            **fields,
        )
    )


def latent(value: float = 0.5, length: int = LENGTH) -> pb.Latent:
    return pb.Latent(values=[value] * length)


# --- what follows ----------------------------------------------------------------------------------------------------


def test_samples_and_files_of_one_image_are_the_same_picture(requests: Requests) -> None:
    samples = noise((SIDE_PX, SIDE_PX, 1))
    from_samples = requests.encoding(pb.EncodeRequest(image=raw()))
    from_file = requests.encoding(pb.EncodeRequest(image=pb.Image(encoded=pb.EncodedImage(data=png(samples)))))
    for asked, is_file in ((from_samples, False), (from_file, True)):
        picture = asked.image.read()
        np.testing.assert_array_equal(picture.colour, samples)
        assert (picture.scale.black_level, picture.scale.white_level, picture.prefix) == (0.0, 255.0, "")
        assert (asked.plan().reads_files, asked.plan().unit_count) == (is_file, 1)


def test_alpha_is_left_out(requests: Requests) -> None:
    asked = requests.encoding(pb.EncodeRequest(image=raw(channels=2)))
    assert asked.image.read().colour.shape == (SIDE_PX, SIDE_PX, 1)


def test_without_options_images_come_as_the_model_knows_them(requests: Requests) -> None:
    target = requests.decoding(pb.DecodeRequest(latent=latent(), options=options("deep"))).target
    assert (target.container, target.form.dtype) == (Container.RAW, np.dtype("<u2"))
    assert (target.form.scale.black_level, target.form.scale.white_level) == (64.0, 4095.0)
    floats = pb.PictureOptions(sample_type=pb.SAMPLE_TYPE_F32)
    scale = requests.decoding(
        pb.DecodeRequest(latent=latent(), options=options("deep"), picture=floats)
    ).target.form.scale
    assert (scale.black_level, scale.white_level) == (0.0, 1.0)


@same_model
@given(numbers=st.lists(st.floats(-4.0, 4.0, width=16), min_size=LENGTH, max_size=LENGTH), is_half=st.booleans())
def test_a_code_comes_as_numbers_or_as_16_bit_floats(
    requests: Requests, numbers: list[float], *, is_half: bool
) -> None:
    halves = np.array(numbers, "<f2").tobytes()
    message = pb.Latent(half_values=halves) if is_half else pb.Latent(values=numbers)
    request = pb.DecodeRequest(latent=message, allow_out_of_distribution=True)
    np.testing.assert_array_equal(requests.decoding(request).code, np.array(numbers, np.float32))


@same_model
@given(
    count=st.integers(1, LIMITS.generated_image_count),
    seed=st.integers(0, MOST_SEED),
    temperature=st.floats(0.0, 2.0, width=32),
)
def test_whatever_is_within_the_limits_is_planned(
    requests: Requests, count: int, seed: int, temperature: float
) -> None:
    asked = requests.generating(pb.GenerateRequest(image_count=count, seed=seed, temperature=temperature))
    plan = asked.plan()
    assert (asked.seed, plan.decoded_count, plan.unit_count) == (seed, count, count)
    assert plan.answer_bytes <= plan.held_bytes
    np.testing.assert_array_equal(asked.code(count - 1), asked.code(count - 1))
    assert asked.code(0).shape == (LENGTH,)


def test_without_a_seed_each_call_gets_its_own(requests: Requests) -> None:
    seeds = {requests.generating(pb.GenerateRequest()).seed for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed <= MOST_SEED for seed in seeds)


@same_model
@given(count=st.integers(2, LIMITS.interpolation_step_count), model=st.sampled_from(["digits", "plain"]))
def test_a_way_begins_and_ends_at_its_ends(requests: Requests, count: int, model: str) -> None:
    request = pb.InterpolateRequest(
        start=pb.InterpolationEnd(image=raw()),
        stop=pb.InterpolationEnd(latent=latent(0.25)),
        step_count=count,
        options=options(model),
        allow_out_of_distribution=True,
    )
    asked = requests.interpolating(request)
    assert asked.is_spherical == (model == "digits")
    assert (asked.plan().encoded_count, asked.plan().decoded_count) == (1, count)
    encoded = np.linspace(0, 1, LENGTH, dtype=np.float32)[np.newaxis]
    code_of = asked.code_of(encoded)
    np.testing.assert_array_equal(code_of(0), encoded[0])
    np.testing.assert_array_equal(code_of(count - 1), np.full(LENGTH, 0.25, np.float32))


def test_two_images_are_encoded_in_their_order(requests: Requests) -> None:
    ends = [pb.InterpolationEnd(image=raw(seed)) for seed in (1, 2)]
    asked = requests.interpolating(pb.InterpolateRequest(start=ends[0], stop=ends[1]))
    code_of = asked.code_of(np.stack([np.zeros(LENGTH, np.float32), np.ones(LENGTH, np.float32)]))
    assert (asked.step_count, len(asked.images)) == (8, 2)
    assert (code_of(0).max(), code_of(7).min()) == (0.0, 1.0)


def test_the_class_of_service_is_taken_over(requests: Requests) -> None:
    request = pb.GenerateRequest(options=pb.LatentOptions(service_class=pb.SERVICE_CLASS_BULK))
    assert requests.generating(request).chosen.service_class is ServiceClass.BULK


# --- what is refused -------------------------------------------------------------------------------------------------


@same_model
@given(count=st.integers(-(2**31), 2**31 - 1).filter(lambda n: not 1 <= n <= LIMITS.generated_image_count))
def test_a_number_of_images_beyond_the_limit_is_refused_with_it(requests: Requests, count: int) -> None:
    with pytest.raises(
        InvalidArgument, match=rf"image_count is {count}; it must lie in 1\.\.16: ask for more in"
    ) as caught:
        requests.generating(pb.GenerateRequest(image_count=count))
    assert caught.value.field == "image_count"


@same_model
@given(count=st.integers(-(2**31), 2**31 - 1).filter(lambda n: not 2 <= n <= LIMITS.interpolation_step_count))
def test_a_number_of_steps_beyond_the_limit_is_refused_with_it(requests: Requests, count: int) -> None:
    end = pb.InterpolationEnd(latent=latent())
    with pytest.raises(InvalidArgument, match=rf"step_count is {count}; it must lie in 2\.\.12") as caught:
        requests.interpolating(pb.InterpolateRequest(start=end, stop=end, step_count=count))
    assert caught.value.field == "step_count"


@same_model
@given(temperature=st.floats(width=32).filter(lambda t: not 0.0 <= t <= 2.0))
def test_a_temperature_beyond_the_limit_is_refused_with_it(requests: Requests, temperature: float) -> None:
    with pytest.raises(InvalidArgument, match=r"it must lie in 0\.\.2") as caught:
        requests.generating(pb.GenerateRequest(temperature=temperature))
    assert caught.value.field == "temperature"


@pytest.mark.parametrize("seed", [-1, -(2**63)])
def test_a_seed_below_zero_is_refused_with_the_range(requests: Requests, seed: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"seed is {seed}; it must lie in 0\.\.{2**63 - 1}"):
        requests.generating(pb.GenerateRequest(seed=seed))


@same_model
@given(length=st.integers(0, 64).filter(lambda n: n != LENGTH), is_half=st.booleans())
def test_a_code_of_another_length_is_refused(requests: Requests, length: int, *, is_half: bool) -> None:
    message = pb.Latent(half_values=bytes(2 * length)) if is_half else latent(0.0, length)
    with pytest.raises(InvalidLatent) as caught:
        requests.decoding(pb.DecodeRequest(latent=message))
    assert str(LENGTH) in str(caught.value)
    assert caught.value.field.startswith("latent")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (pb.Latent(), "has no numbers"),
        (pb.Latent(values=[0.0], half_values=b"00"), "both values and half_values"),
        (pb.Latent(half_values=b"000"), "has 3 bytes, which are no whole 16-bit numbers; send 32"),
        (pb.Latent(values=[float("nan")] * LENGTH), "16 of 16 numbers of the code are NaN or infinite"),
        (pb.Latent(half_values=np.full(LENGTH, np.inf, "<f2").tobytes()), "16 of 16 numbers"),
    ],
)
def test_a_code_that_is_none_is_refused(requests: Requests, message: pb.Latent, said: str) -> None:
    with pytest.raises(InvalidLatent, match=said):
        requests.decoding(pb.DecodeRequest(latent=message, allow_out_of_distribution=True))


def test_a_code_far_outside_the_prior_is_refused_unless_that_is_allowed(requests: Requests) -> None:
    request = pb.InterpolateRequest(
        start=pb.InterpolationEnd(latent=latent()), stop=pb.InterpolationEnd(latent=latent(100.0))
    )
    with pytest.raises(LatentOutOfDistribution, match="is 400 standard deviations") as caught:
        requests.interpolating(request)
    assert caught.value.field == "stop.latent"
    request.allow_out_of_distribution = True
    assert requests.interpolating(request).step_count == 8


@pytest.mark.parametrize(
    ("image", "field"),
    [
        (pb.Image(), "image"),
        (raw(side_px=SIDE_PX + 1), "options.model"),
        (raw(channels=3), "options.model"),
        (raw(black_level=9.0, white_level=1.0), "image.raw.white_level"),
        (pb.Image(raw=pb.RawImage(height_px=4, width_px=4, channel_count=1)), "image.raw.sample_type"),
        (pb.Image(encoded=pb.EncodedImage(data=b"no image")), "image.encoded.data"),
        (pb.Image(encoded=pb.EncodedImage(data=b"x", container=pb.CONTAINER_RAW)), "image.encoded.container"),
    ],
)
def test_an_image_that_can_not_be_encoded_is_refused_by_its_whole_path(
    requests: Requests, image: pb.Image, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        requests.encoding(pb.EncodeRequest(image=image))
    assert caught.value.field == field
    ends = pb.InterpolateRequest(start=pb.InterpolationEnd(image=raw()), stop=pb.InterpolationEnd(image=image))
    with pytest.raises(InvalidArgument) as caught:
        requests.interpolating(ends)
    assert caught.value.field == f"stop.{field}"


@pytest.mark.parametrize("end", ["start", "stop"])
def test_an_end_that_is_nothing_is_refused(requests: Requests, end: str) -> None:
    request = pb.InterpolateRequest(**{end: pb.InterpolationEnd(latent=latent())})  # type: ignore[arg-type]  # one of two
    with pytest.raises(InvalidArgument, match="is neither an image nor a code") as caught:
        requests.interpolating(request)
    assert caught.value.field == ({"start", "stop"} - {end}).pop()


@pytest.mark.parametrize(
    ("picture", "field"),
    [
        (pb.PictureOptions(container=cast("pb.Container", 99)), "picture.container"),
        (pb.PictureOptions(sample_type=cast("pb.SampleType", 99)), "picture.sample_type"),
        (pb.PictureOptions(container=pb.CONTAINER_JPEG, sample_type=pb.SAMPLE_TYPE_U16), "picture.container"),
        (pb.PictureOptions(container=pb.CONTAINER_PNG, sample_type=pb.SAMPLE_TYPE_F32), "picture.container"),
        (pb.PictureOptions(container=pb.CONTAINER_JPEG, jpeg_quality=0), "picture.jpeg_quality"),
    ],
)
def test_a_form_that_no_image_can_have_is_refused(requests: Requests, picture: pb.PictureOptions, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        requests.generating(pb.GenerateRequest(picture=picture))
    assert caught.value.field == field


def test_an_answer_that_no_message_holds_is_refused_before_it_is_made(vae: ModelContract) -> None:
    registry = Registry([Model(vae, "d", cast("OnnxEngine", None))], default_name="digits")
    small = Requests(registry=lambda: registry, limits=replace(LIMITS, message_bytes=1024))
    assert small.generating(pb.GenerateRequest(image_count=4)).image_count == 4
    with pytest.raises(
        ImageTooLarge, match="would have 5 images and codes in 1040 bytes; a message holds at most 1024"
    ):
        small.generating(pb.GenerateRequest(image_count=5))


@pytest.mark.parametrize(
    ("model", "method", "request_", "said"),
    [
        ("gaussian-base", "encoding", pb.EncodeRequest(image=raw()), "can't encode, it can denoise"),
        ("decoder", "encoding", pb.EncodeRequest(image=raw()), "can't encode, it can decode"),
        ("encoder", "decoding", pb.DecodeRequest(latent=latent()), "can't decode, it can encode"),
        ("plain", "generating", pb.GenerateRequest(), "can't generate, it can denoise, encode, decode"),
        ("encoder", "interpolating", pb.InterpolateRequest(), "can't decode, it can encode"),
        (
            "decoder",
            "interpolating",
            pb.InterpolateRequest(start=pb.InterpolationEnd(image=raw())),
            "can't encode, it can decode",
        ),
    ],
)
def test_a_model_that_can_not_says_what_it_can(
    requests: Requests, model: str, method: str, request_: Any, said: str
) -> None:
    request_.options.model = model
    with pytest.raises(CapabilityMissing, match=said):
        getattr(requests, method)(request_)


def test_an_unknown_model_or_version_is_refused(requests: Requests) -> None:
    with pytest.raises(ModelUnknown):
        requests.generating(pb.GenerateRequest(options=options("letters")))
    with pytest.raises(ModelUnknown):
        requests.generating(pb.GenerateRequest(options=pb.LatentOptions(model="digits", model_version="9")))
