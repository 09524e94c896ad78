"""Messages to the service's types and back: each wrong field is refused by its path, and each right one arrives."""

import math
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from denoised.contract import Capability, GoldenPair, ModelContract, Precision, SampleLevels, SampleType
from denoised.noise import NoiseSpec
from denoised.v1 import denoised_pb2 as pb
from service import codec, convert
from service.codec import SampleLayout
from service.engine import OnnxEngine
from service.errors import InvalidArgument, InvalidImage, InvalidOption, InvalidSamples
from service.pipeline import Answer, Findings, Outcome, Timings
from service.registry import Model
from service.types import Container, Image

FULL_RANGE = SampleLevels()
NO_TIME = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
UNKNOWN_ENUM = cast("Any", 99)  # proto3 lets any number through


@pytest.fixture
def model(contract: ModelContract) -> Model:
    return Model(contract, "f00d", cast("OnnxEngine", None))


def picture() -> Image:
    return Image(np.full((2, 3, 3), 7, np.uint8), None, 0.0, 255.0)


def encoded(**fields: Any) -> pb.Image:
    return pb.Image(encoded=pb.EncodedImage(data=codec.encode(picture(), Container.PNG, jpeg_quality=90), **fields))


def raw(**fields: Any) -> pb.Image:
    right: dict[str, Any] = {
        "data": bytes(range(18)),
        "sample_type": pb.SAMPLE_TYPE_U8,
        "height_px": 2,
        "width_px": 3,
        "channel_count": 3,
    }
    return pb.Image(raw=pb.RawImage(**right | fields))


def options(image: pb.Image | None = None, **fields: Any) -> Any:
    return convert.options_of(pb.DenoiseOptions(**fields), image or encoded())


def assert_explains_itself(error: InvalidArgument, value: object) -> None:
    assert str(value) in str(error), "the message names the value"
    assert ";" in str(error), "the message names the limit or the remedy"


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [pb.CONTAINER_UNSPECIFIED, pb.CONTAINER_PNG])
def test_an_image_file_is_known_by_its_bytes(claimed: pb.Container) -> None:
    message = encoded(container=claimed)
    source = convert.source_of(message)
    assert source.header.container is Container.PNG
    assert (source.header.height_px, source.header.width_px, source.header.channels) == (2, 3, 3)
    assert source.size_bytes == len(message.encoded.data)
    np.testing.assert_array_equal(source.decode(FULL_RANGE).colour, picture().colour)


def test_raw_samples_arrive_with_their_layout_and_levels() -> None:
    source = convert.source_of(raw(layout=pb.SAMPLE_LAYOUT_CHW, black_level=16.0, white_level=235.0))
    assert (source.header.container, source.header.bits, source.size_bytes) == (Container.RAW, 8, 18)
    image = source.decode(FULL_RANGE)
    assert (image.black_level, image.white_level) == (16.0, 235.0)
    np.testing.assert_array_equal(image.colour, np.arange(18).reshape(3, 2, 3).transpose(1, 2, 0))


@pytest.mark.parametrize("layout", [pb.SAMPLE_LAYOUT_UNSPECIFIED, pb.SAMPLE_LAYOUT_HWC])
def test_raw_samples_lie_row_by_row_unless_they_say_otherwise(layout: pb.SampleLayout) -> None:
    image = convert.source_of(raw(layout=layout)).decode(FULL_RANGE)
    np.testing.assert_array_equal(image.colour, np.arange(18).reshape(2, 3, 3))


@pytest.mark.parametrize(
    ("sample_type", "bits", "white_level"),
    [(pb.SAMPLE_TYPE_U8, 8, 255.0), (pb.SAMPLE_TYPE_U16, 16, 65535.0), (pb.SAMPLE_TYPE_F32, 32, 1.0)],
)
def test_levels_that_are_left_out_are_those_of_the_type(
    sample_type: pb.SampleType, bits: int, white_level: float
) -> None:
    source = convert.source_of(raw(sample_type=sample_type, data=bytes(18 * bits // 8)))
    image = source.decode(FULL_RANGE)
    assert (source.header.bits, image.black_level, image.white_level) == (bits, 0.0, white_level)


LEVELS_OF_TYPE: dict[SampleType, tuple[float, float]] = {"u8": (0.0, 255.0), "u16": (0.0, 65535.0), "f32": (0.0, 1.0)}


@pytest.mark.parametrize(
    ("sample_type", "number"),
    [("u8", pb.SAMPLE_TYPE_U8), ("u16", pb.SAMPLE_TYPE_U16), ("f32", pb.SAMPLE_TYPE_F32)],
)
@pytest.mark.parametrize("trained_on", LEVELS_OF_TYPE)
@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, (0.25, 0.75)),
        ({"white_level": 0.5}, (0.0, 0.5)),
        ({"black_level": 0.125}, (0.125, None)),
        ({"black_level": 0.125, "white_level": 0.5}, (0.125, 0.5)),
    ],
    ids=["neither", "white", "black", "both"],
)
def test_raw_samples_have_the_levels_of_the_model_only_when_they_state_none_and_are_of_its_type(
    sample_type: SampleType,
    number: pb.SampleType,
    trained_on: SampleType,
    stated: dict[str, float],
    expected: tuple[float, float | None],
) -> None:
    data = bytes(18 * int(sample_type[1:]) // 8)
    image = convert.source_of(raw(sample_type=number, data=data, **stated)).decode(SampleLevels(trained_on, 0.25, 0.75))
    black, white = LEVELS_OF_TYPE[sample_type] if not stated and sample_type != trained_on else expected
    assert (image.black_level, image.white_level) == (black, LEVELS_OF_TYPE[sample_type][1] if white is None else white)


@pytest.mark.parametrize(
    ("dtype", "levels", "expected"),
    [
        (np.uint8, SampleLevels("u8", 16.0, 235.0), (16.0, 235.0)),
        (np.uint8, SampleLevels("u16", 64.0, 4095.0), (0.0, 255.0)),
        (np.uint16, SampleLevels("u16", 64.0, 4095.0), (64.0, 4095.0)),
        (np.uint16, SampleLevels(), (0.0, 65535.0)),
    ],
)
def test_a_file_has_the_levels_of_a_model_that_was_trained_on_its_type(
    dtype: Any, levels: SampleLevels, expected: tuple[float, float]
) -> None:
    file = codec.encode(Image(np.full((2, 3, 1), 7, dtype), None, 0.0, 1.0), Container.PNG, jpeg_quality=90)
    image = convert.source_of(pb.Image(encoded=pb.EncodedImage(data=file))).decode(levels)
    assert (image.black_level, image.white_level) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"white_level": 200.0}, (0.0, 200.0)),
        ({"black_level": 8.0}, (8.0, 255.0)),
        ({"black_level": 0.0, "white_level": 255.0}, (0.0, 255.0)),
    ],
)
def test_the_levels_that_are_stated_for_a_file_win(stated: dict[str, float], expected: tuple[float, float]) -> None:
    image = convert.source_of(encoded(**stated)).decode(SampleLevels("u8", 16.0, 235.0))
    assert (image.black_level, image.white_level) == expected


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"white_level": 0.0}, "white_level"),
        ({"black_level": 255.0}, "white_level"),
        ({"black_level": math.nan}, "black_level"),
    ],
)
def test_levels_of_a_file_without_a_range_are_refused(stated: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidSamples) as raised:
        convert.source_of(encoded(**stated)).decode(FULL_RANGE)
    assert raised.value.field == f"image.encoded.{field}"


def test_a_level_of_zero_is_a_level_and_not_left_out() -> None:
    image = convert.source_of(raw(black_level=-5.0, white_level=0.0)).decode(FULL_RANGE)
    assert (image.black_level, image.white_level) == (-5.0, 0.0)


@pytest.mark.parametrize(
    ("image", "field", "kind", "value"),
    [
        (pb.Image(), "image", InvalidImage, "no image"),
        (pb.Image(encoded=pb.EncodedImage()), "image.encoded.data", InvalidImage, "0 bytes"),
        (encoded(container=pb.CONTAINER_JPEG), "image.encoded.container", InvalidImage, "JPEG"),
        (encoded(container=pb.CONTAINER_RAW), "image.encoded.container", InvalidImage, 3),
        (encoded(container=UNKNOWN_ENUM), "image.encoded.container", InvalidImage, 99),
        (raw(sample_type=pb.SAMPLE_TYPE_UNSPECIFIED), "image.raw.sample_type", InvalidSamples, 0),
        (raw(sample_type=UNKNOWN_ENUM), "image.raw.sample_type", InvalidSamples, 99),
        (raw(layout=UNKNOWN_ENUM), "image.raw.layout", InvalidSamples, 99),
        (raw(height_px=0), "image.raw.height_px", InvalidSamples, 0),
        (raw(width_px=-3), "image.raw.width_px", InvalidSamples, -3),
        (raw(channel_count=0), "image.raw.channel_count", InvalidSamples, 0),
        (raw(channel_count=5), "image.raw.channel_count", InvalidSamples, 5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_image_is_refused_by_the_path_of_its_field(
    image: pb.Image, field: str, kind: type[InvalidArgument], value: object
) -> None:
    with pytest.raises(kind) as raised:
        convert.source_of(image)
    assert raised.value.field == field
    assert_explains_itself(raised.value, value)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": bytes(17)}, "image.raw.data"),
        ({"data": bytes(19)}, "image.raw.data"),
        ({"white_level": math.nan}, "image.raw.white_level"),
        ({"black_level": math.inf}, "image.raw.black_level"),
        ({"black_level": 255.0}, "image.raw.white_level"),
    ],
    ids=["short", "long", "nan", "inf", "no range"],
)
def test_wrong_samples_are_refused_when_they_are_read(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSamples) as raised:
        convert.source_of(raw(**fields)).decode(FULL_RANGE)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("black_level", "white_level"), [(0.0, 1e300), (-1e300, 0.0), (0.0, 1e-300)], ids=["high", "low", "narrow"]
)
def test_levels_that_single_precision_cannot_tell_apart_are_refused(black_level: float, white_level: float) -> None:
    """The network computes in it: such levels would become infinite or equal, and the answer NaN."""
    with pytest.raises(InvalidSamples):
        convert.source_of(raw(black_level=black_level, white_level=white_level)).decode(FULL_RANGE)


# --- options and times ------------------------------------------------------------------------------------------------


def test_options_that_are_left_out_have_their_documented_defaults() -> None:
    found = options()
    assert (found.strength, found.output_container, found.jpeg_quality) == (1.0, None, 95)
    assert found.raw_layout is SampleLayout.HWC


def test_options_arrive() -> None:
    found = options(raw(layout=pb.SAMPLE_LAYOUT_CHW), strength=0.5, output_container=pb.CONTAINER_RAW, jpeg_quality=1)
    assert (found.strength, found.output_container, found.jpeg_quality) == (0.5, Container.RAW, 1)
    assert found.raw_layout is SampleLayout.CHW


@pytest.mark.parametrize("strength", [0.0, 1.0, 1e-45])
def test_the_least_and_the_greatest_strength_are_taken(strength: float) -> None:
    assert options(strength=strength).strength == pytest.approx(strength, abs=1e-44)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf, -0.0001, 1.0001])
def test_a_strength_outside_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(InvalidOption) as raised:
        options(strength=strength)
    assert raised.value.field == "options.strength"
    assert_explains_itself(raised.value, "0..1")


@pytest.mark.parametrize("jpeg_quality", [0, 101, -1, 2**31 - 1])
def test_a_quality_outside_1_to_100_is_refused_and_0_is_not_left_out(jpeg_quality: int) -> None:
    with pytest.raises(InvalidOption) as raised:
        options(jpeg_quality=jpeg_quality)
    assert raised.value.field == "options.jpeg_quality"
    assert_explains_itself(raised.value, jpeg_quality)


def test_the_greatest_quality_is_taken() -> None:
    assert options(jpeg_quality=100).jpeg_quality == 100


@pytest.mark.parametrize("number", [99, -1])
def test_an_unknown_output_container_is_refused_with_those_that_are_known(number: int) -> None:
    with pytest.raises(InvalidOption) as raised:
        options(output_container=cast("Any", number))
    assert raised.value.field == "options.output_container"
    assert_explains_itself(raised.value, number)
    assert "CONTAINER_PNG" in str(raised.value)


@pytest.mark.parametrize(
    "duration",
    [Duration(), Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=1, nanos=-1_500_000_000)],
    ids=["zero", "negative", "just negative", "more back than forth"],
)
def test_a_timeout_of_nothing_or_less_is_refused(duration: Duration) -> None:
    with pytest.raises(InvalidOption) as raised:
        convert.timeout_s(pb.DenoiseStreamRequest(timeout=duration))
    assert raised.value.field == "timeout"
    assert_explains_itself(raised.value, "more than 0")


@given(st.integers(0, 10**6), st.integers(1, 999_999_999))
def test_a_timeout_is_its_seconds(seconds: int, nanos: int) -> None:
    frame = pb.DenoiseStreamRequest(timeout=Duration(seconds=seconds, nanos=nanos))
    assert convert.timeout_s(frame) == pytest.approx(seconds + nanos * 1e-9, rel=1e-12)


# --- answers ----------------------------------------------------------------------------------------------------------


def outcome(container: Container, answer: Answer | None, findings: Findings | None = None) -> Outcome:
    return Outcome(container, answer, findings, NO_TIME)


def test_an_answer_in_a_file_says_what_it_is(model: Model) -> None:
    response = convert.response_of(
        outcome(Container.JPEG, Answer(picture(), b"bytes")), pb.DenoiseRequest(image=encoded()), model
    )
    assert response.image == pb.Image(encoded=pb.EncodedImage(data=b"bytes", container=pb.CONTAINER_JPEG))
    assert response.model == pb.ModelReference(name="gaussian-base", version="1", digest="f00d")


@pytest.mark.parametrize(
    ("dtype", "number"),
    [(np.uint8, pb.SAMPLE_TYPE_U8), (np.uint16, pb.SAMPLE_TYPE_U16), (np.float32, pb.SAMPLE_TYPE_F32)],
)
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (encoded(), pb.SAMPLE_LAYOUT_HWC),
        (raw(), pb.SAMPLE_LAYOUT_HWC),
        (raw(layout=pb.SAMPLE_LAYOUT_CHW), pb.SAMPLE_LAYOUT_CHW),
    ],
    ids=["file", "hwc", "chw"],
)
def test_an_answer_in_raw_samples_can_be_read_by_what_it_says(
    model: Model, dtype: Any, number: pb.SampleType, asked: pb.Image, answered: pb.SampleLayout
) -> None:
    alpha = np.full((2, 3), 9, dtype)
    image = Image(np.arange(18).reshape(2, 3, 3).astype(dtype), alpha, black_level=1.0, white_level=200.0)
    layout = convert.options_of(pb.DenoiseOptions(), asked).raw_layout
    answer = Answer(image, codec.encode_raw(image, layout))
    response = convert.response_of(outcome(Container.RAW, answer), pb.DenoiseRequest(image=asked), model)
    message = response.image.raw
    assert (message.sample_type, message.layout) == (number, answered)
    assert (message.height_px, message.width_px, message.channel_count) == (2, 3, 4)
    back = convert.source_of(response.image).decode(FULL_RANGE)
    np.testing.assert_array_equal(back.colour, image.colour)
    assert back.alpha is not None
    np.testing.assert_array_equal(back.alpha, alpha)
    assert (back.black_level, back.white_level) == (1.0, 200.0)


@pytest.mark.parametrize("image", [encoded(), raw(black_level=3.0)], ids=["file", "raw"])
def test_an_untouched_image_comes_back_as_it_was_sent_without_a_report(model: Model, image: pb.Image) -> None:
    request = pb.DenoiseRequest(image=image)
    response = convert.response_of(outcome(Container.PNG, None), request, model)
    assert response.image == image
    assert not response.HasField("report")
    assert not response.HasField("batching")
    assert response.HasField("timings")


@pytest.mark.parametrize(("sigma", "is_in_range"), [(4.99, False), (5.0, True), (50.0, True), (50.01, False)])
def test_findings_are_reported_beside_the_range_of_the_model(model: Model, sigma: float, *, is_in_range: bool) -> None:
    findings = Findings(sigma, clipped_sample_count=11, tile_count=4, shared_request_count=3, shared_client_count=2)
    response = convert.response_of(
        outcome(Container.PNG, Answer(picture(), b"bytes"), findings),
        pb.DenoiseRequest(image=encoded()),
        model,
    )
    assert response.report.noise_sigma == pytest.approx(sigma)
    assert response.report.sigma_in_trained_range is is_in_range
    assert response.report.clipped_sample_count == 11
    assert response.batching == pb.Batching(tile_count=4, shared_request_count=3, shared_client_count=2)


def reported(model: Model, sigma: float | None) -> pb.NoiseReport:
    findings = Findings(sigma, clipped_sample_count=11, tile_count=1, shared_request_count=1, shared_client_count=1)
    found = outcome(Container.PNG, Answer(picture(), b"bytes"), findings)
    return convert.response_of(found, pb.DenoiseRequest(image=encoded()), model).report


def test_noise_that_the_model_does_not_estimate_is_left_out_and_not_zero(model: Model) -> None:
    assert reported(model, None) == pb.NoiseReport(clipped_sample_count=11)


def test_a_model_of_unknown_noise_has_no_range_that_an_image_could_be_in(contract: ModelContract) -> None:
    """Its noise was in the training images already, so that nothing says how much it was."""
    trained_on_pairs = Model(replace(contract, noise=NoiseSpec()), "f00d", cast("OnnxEngine", None))
    report = reported(trained_on_pairs, 12.5)
    assert report == pb.NoiseReport(noise_sigma=12.5, clipped_sample_count=11)


@pytest.mark.parametrize("image", [encoded(), raw(layout=pb.SAMPLE_LAYOUT_CHW)], ids=["file", "raw"])
@pytest.mark.parametrize("answers", [True, False], ids=["answer", "untouched"])
def test_no_answer_takes_more_than_is_said_before_it_is_made(
    contract: ModelContract, image: pb.Image, *, answers: bool
) -> None:
    """With all that can be long as long as it can be: a store's folders have names of 255 bytes at most."""
    model = Model(replace(contract, name="n" * 255, version="1" * 255), "d" * 64, cast("OnnxEngine", None))
    answer = Answer(replace(picture(), black_level=1e300, white_level=-1e300), bytes(5000)) if answers else None
    found = Outcome(
        Container.RAW if image.WhichOneof("content") == "raw" else Container.PNG,
        answer,
        Findings(3e38, 2**62, tile_count=2**31 - 1, shared_request_count=2**31 - 1, shared_client_count=2**31 - 1),
        Timings(*[1e9 + 0.123456789] * 5),
    )
    response = convert.response_of(found, pb.DenoiseRequest(image=image), model)
    most_bytes = convert.most_bytes(found, convert.source_of(image))
    assert most_bytes - 1024 < len(response.SerializeToString()) <= most_bytes


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, (0, 0)),
        (1.25, (1, 250_000_000)),
        (0.9999999999, (1, 0)),
        (59.000000001, (59, 1)),
        (-0.5, (0, 0)),
        (math.inf, (0, 0)),
        (-math.inf, (0, 0)),
        (math.nan, (0, 0)),
    ],
)
def test_times_are_legal_durations_whatever_the_clock_said(
    model: Model, seconds: float, expected: tuple[int, int]
) -> None:
    timings = Timings(decode_s=1.0, queue_s=seconds, compute_s=2.0, encode_s=3.0, total_s=4.0)
    response = convert.response_of(
        Outcome(Container.PNG, None, None, timings), pb.DenoiseRequest(image=encoded()), model
    )
    assert (response.timings.queue.seconds, response.timings.queue.nanos) == expected
    found = [getattr(response.timings, name).seconds for name in ("decode", "compute", "encode", "total")]
    assert found == [1, 2, 3, 4]


@pytest.mark.parametrize("is_default", [True, False])
def test_a_model_is_described_by_its_contract(model: Model, *, is_default: bool) -> None:
    message = convert.model_message(model, is_default=is_default)
    assert message == pb.Model(
        reference=pb.ModelReference(name="gaussian-base", version="1", digest="f00d"),
        summary="For tests.",
        channel_count=3,
        sigma_min=5.0,
        sigma_max=50.0,
        clips_input=True,
        gmac_per_megapixel=21.5,
        license="Apache-2.0",
        is_default=is_default,
        kind="conv_dae",
        capabilities=[pb.CAPABILITY_DENOISE],
        precision=pb.PRECISION_FP32,
        sample_type=pb.SAMPLE_TYPE_U8,
        white_level=255.0,
    )


def test_a_model_with_a_code_says_what_it_can_and_which_images_it_takes(contract: ModelContract) -> None:
    vae = replace(
        contract,
        kind="vae",
        capabilities=("denoise", "encode", "decode", "generate"),
        precision="int8",
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=32,
        levels=SampleLevels("u16", 64.0, 4095.0),
        golden=GoldenPair.of(*[np.zeros((16, 16, 3), np.uint8)] * 2),
    )
    message = convert.model_message(Model(vae, "f00d", cast("OnnxEngine", None)), is_default=False)
    assert (message.kind, message.precision) == ("vae", pb.PRECISION_INT8)
    assert list(message.capabilities) == [
        *(pb.CAPABILITY_DENOISE, pb.CAPABILITY_ENCODE, pb.CAPABILITY_DECODE, pb.CAPABILITY_GENERATE)
    ]
    assert (message.fixed_side_px, message.code_length) == (16, 32)
    assert (message.sample_type, message.black_level, message.white_level) == (pb.SAMPLE_TYPE_U16, 64.0, 4095.0)


def test_every_capability_and_precision_of_a_contract_has_its_value_in_the_api() -> None:
    assert set(convert._CAPABILITIES) == set(get_args(Capability))
    assert set(convert._CAPABILITIES.values()) == set(pb.Capability.values()) - {pb.CAPABILITY_UNSPECIFIED}
    assert set(convert._PRECISIONS) == set(get_args(Precision))
    assert set(convert._PRECISIONS.values()) == set(pb.Precision.values()) - {pb.PRECISION_UNSPECIFIED}


def test_every_container_and_sample_type_of_the_api_is_served() -> None:
    """A value that is added to the API must not be forgotten here."""
    assert set(convert._CONTAINERS) == set(pb.Container.values()) - {pb.CONTAINER_UNSPECIFIED}
    assert set(convert._SAMPLE_TYPES) == set(pb.SampleType.values()) - {pb.SAMPLE_TYPE_UNSPECIFIED}
    assert set(convert._LAYOUTS) == set(pb.SampleLayout.values())
