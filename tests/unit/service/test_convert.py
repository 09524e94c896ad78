"""Messages to orders and outcomes to replies: each wrong field is refused by its path, and each right one arrives."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from denoised.contract import Capability, GoldenPair, ModelContract, Precision, SampleLevels, SampleType
from denoised.noise import NoiseSpec
from denoised.v1 import denoised_pb2 as pb
from service import codec, convert, wire
from service.codec import SampleLayout
from service.convert import Recipe, Recipes, Replies
from service.engine import OnnxEngine
from service.errors import (
    ImageTooLarge,
    InvalidArgument,
    InvalidImage,
    InvalidMessage,
    InvalidOption,
    InvalidSamples,
    ModelUnknown,
)
from service.job import FileOrder, Findings, Levels, Options, Outcome, RawOrder, Timings
from service.metrics import Metrics
from service.registry import Model, Registry
from service.types import Container, Image, ReportLevel, Samples, ServiceClass
from tests.unit.service.denoiser_bench import Bench, negative, noise, png

NO_TIME = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
UNKNOWN_ENUM = cast("Any", 99)  # proto3 lets any number through
FINDINGS = Findings(12.5, clipped_sample_count=11, tile_count=4, shared_request_count=3, shared_client_count=2)


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


@pytest.fixture
def model(bench: Bench) -> Model:
    return bench.model


class Desk:
    """Takes requests, and has the reply to any outcome."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        registry = Registry([bench.model], default_name=bench.model.contract.name)
        self.recipes = Recipes(registry=lambda: registry, denoiser=bench.denoiser)
        self.replies = Replies(report_one_in=16)

    def recipe(self, image: pb.Image, **options: Any) -> Recipe:
        return self.recipes.of(split(image, **options).rest)

    def raw_order(self, image: pb.Image, **options: Any) -> RawOrder:
        order = self.recipe(image, **options).order
        assert isinstance(order, RawOrder)
        return order

    def options(self, image: pb.Image | None = None, **options: Any) -> Options:
        return self.recipe(image or encoded(), **options).order.options

    def start(self, image: pb.Image, **options: Any) -> None:
        """As far as a request is looked at before anything is computed."""
        taken = split(image, **options)
        self.bench.start(self.bench.job(self.recipes.of(taken.rest).order, taken.data))

    def reply(self, outcome: Outcome, recipe: Recipe) -> pb.DenoiseResponse:
        parts, size_bytes = self.replies.response_parts(outcome, recipe)
        message = b"".join(parts)
        assert len(message) == size_bytes
        return pb.DenoiseResponse.FromString(message)

    async def answer(self, image: pb.Image, **options: Any) -> pb.DenoiseResponse:
        """What a client gets."""
        taken = split(image, **options)
        recipe = self.recipes.of(taken.rest)
        (outcome,) = await self.bench.answers(self.bench.job(recipe.order, taken.data))
        return self.reply(outcome, recipe)


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def split(image: pb.Image, **options: Any) -> wire.Split:
    request = pb.DenoiseRequest(image=image, options=pb.DenoiseOptions(**options))
    return wire.split_request(request.SerializeToString())


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


def without_data(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("data")
    return copy


def assert_explains_itself(error: InvalidArgument, value: object) -> None:
    assert str(value) in str(error), "the message names the value"
    assert ";" in str(error), "the message names the limit or the remedy"


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (pb.CONTAINER_UNSPECIFIED, None),
        (pb.CONTAINER_PNG, Container.PNG),
        (pb.CONTAINER_JPEG, Container.JPEG),
    ],
)
def test_an_image_file_arrives_with_what_it_claims_to_be(
    desk: Desk, model: Model, claimed: pb.Container, expected: Container | None
) -> None:
    order = desk.recipe(encoded(container=claimed, white_level=0.0)).order
    assert order == FileOrder(model, Options(report_level=ReportLevel.UNSPECIFIED), expected, Levels(None, 0.0))


def test_raw_samples_arrive_with_their_layout_and_levels(desk: Desk, model: Model) -> None:
    order = desk.raw_order(raw(layout=pb.SAMPLE_LAYOUT_CHW, black_level=16.0, white_level=235.0))
    header = order.geometry.header
    assert (header.container, header.bits, header.decoded_bytes) == (Container.RAW, 8, 18)
    assert (header.height_px, header.width_px, header.channels) == (2, 3, 3)
    assert (order.scale.black_level, order.scale.white_level, order.scale.clip) == (16.0, 235.0, True)
    assert (order.model, order.layout) == (model, SampleLayout.CHW)


@pytest.mark.parametrize("layout", [pb.SAMPLE_LAYOUT_UNSPECIFIED, pb.SAMPLE_LAYOUT_HWC])
def test_raw_samples_lie_row_by_row_unless_they_say_otherwise(desk: Desk, layout: pb.SampleLayout) -> None:
    assert desk.raw_order(raw(layout=layout)).layout is SampleLayout.HWC


@pytest.mark.parametrize(
    ("sample_type", "bits", "white_level"),
    [(pb.SAMPLE_TYPE_U8, 8, 255.0), (pb.SAMPLE_TYPE_U16, 16, 65535.0), (pb.SAMPLE_TYPE_F32, 32, 1.0)],
)
def test_levels_that_are_left_out_are_those_of_the_type(
    desk: Desk, sample_type: pb.SampleType, bits: int, white_level: float
) -> None:
    order = desk.raw_order(raw(sample_type=sample_type))
    assert order.geometry.header.bits == bits
    assert (order.scale.black_level, order.scale.white_level) == (0.0, white_level)


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
    contract: ModelContract,
    metrics: Metrics,
    sample_type: SampleType,
    number: pb.SampleType,
    trained_on: SampleType,
    stated: dict[str, float],
    expected: tuple[float, float | None],
) -> None:
    desk = Desk(Bench(replace(contract, levels=SampleLevels(trained_on, 0.25, 0.75)), metrics))
    scale = desk.raw_order(raw(sample_type=number, **stated)).scale
    black, white = LEVELS_OF_TYPE[sample_type] if not stated and sample_type != trained_on else expected
    assert (scale.black_level, scale.white_level) == (black, LEVELS_OF_TYPE[sample_type][1] if white is None else white)


@pytest.mark.parametrize(
    ("dtype", "levels", "stated", "expected"),
    [
        (np.uint8, SampleLevels("u8", 16.0, 235.0), {}, (16.0, 235.0)),
        (np.uint8, SampleLevels("u16", 64.0, 4095.0), {}, (0.0, 255.0)),
        (np.uint16, SampleLevels("u16", 64.0, 4095.0), {}, (64.0, 4095.0)),
        (np.uint16, SampleLevels(), {}, (0.0, 65535.0)),
        (np.uint8, SampleLevels("u8", 16.0, 235.0), {"white_level": 200.0}, (0.0, 200.0)),
        (np.uint8, SampleLevels("u8", 16.0, 235.0), {"black_level": 8.0}, (8.0, 255.0)),
        (np.uint8, SampleLevels("u8", 16.0, 235.0), {"black_level": 0.0, "white_level": 255.0}, (0.0, 255.0)),
    ],
)
async def test_a_file_has_the_levels_that_are_stated_else_those_of_a_model_that_was_trained_on_its_type(
    contract: ModelContract,
    metrics: Metrics,
    dtype: Any,
    levels: SampleLevels,
    stated: dict[str, Any],
    expected: tuple[float, float],
) -> None:
    desk = Desk(Bench(replace(contract, levels=levels), metrics))
    image = pb.Image(encoded=pb.EncodedImage(data=png(noise((2, 3, 1), dtype)), **stated))
    answer = (await desk.answer(image, output_container=pb.CONTAINER_RAW)).image.raw
    assert (answer.black_level, answer.white_level) == expected


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"white_level": 0.0}, "white_level"),
        ({"black_level": 255.0}, "white_level"),
        ({"black_level": math.nan}, "black_level"),
    ],
)
async def test_levels_of_a_file_without_a_range_are_refused(desk: Desk, stated: dict[str, float], field: str) -> None:
    desk.start(encoded(**stated))
    await desk.bench.run_all()
    ((error,),) = desk.bench.ends.values()
    assert isinstance(error, InvalidSamples)
    assert error.field == f"image.encoded.{field}"


def test_a_level_of_zero_is_a_level_and_not_left_out(desk: Desk) -> None:
    scale = desk.raw_order(raw(black_level=-5.0, white_level=0.0)).scale
    assert (scale.black_level, scale.white_level) == (-5.0, 0.0)


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
        (raw(height_px=-(2**31)), "image.raw.height_px", InvalidSamples, -(2**31)),
        (raw(width_px=-1), "image.raw.width_px", InvalidSamples, -1),
        (raw(height_px=2**31 - 1, width_px=2**31 - 1), "image.raw", ImageTooLarge, 2**31 - 1),
        (raw(channel_count=0), "image.raw.channel_count", InvalidSamples, 0),
        (raw(channel_count=5), "image.raw.channel_count", InvalidSamples, 5),
        (raw(data=bytes(17)), "image.raw.data", InvalidSamples, 17),
        (raw(data=bytes(19)), "image.raw.data", InvalidSamples, 19),
        (raw(white_level=math.nan), "image.raw.white_level", InvalidSamples, "nan"),
        (raw(black_level=math.inf), "image.raw.black_level", InvalidSamples, "inf"),
        (raw(black_level=255.0), "image.raw.white_level", InvalidSamples, 255.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_image_is_refused_by_the_path_of_its_field(
    desk: Desk, image: pb.Image, field: str, kind: type[InvalidArgument], value: object
) -> None:
    with pytest.raises(kind) as raised:
        desk.start(image)
    assert raised.value.field == field
    assert_explains_itself(raised.value, value)
    assert not desk.bench.has_room_taken


@pytest.mark.parametrize(
    ("black_level", "white_level"), [(0.0, 1e300), (-1e300, 0.0), (0.0, 1e-300)], ids=["high", "low", "narrow"]
)
def test_levels_that_single_precision_cannot_tell_apart_are_refused(
    desk: Desk, black_level: float, white_level: float
) -> None:
    """The network computes in it: such levels would become infinite or equal, and the answer NaN."""
    with pytest.raises(InvalidSamples):
        desk.recipe(raw(black_level=black_level, white_level=white_level))


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_that_are_left_out_have_their_documented_defaults(desk: Desk) -> None:
    assert desk.options() == Options(1.0, None, 95, SampleLayout.HWC, ServiceClass.NORMAL, ReportLevel.UNSPECIFIED)


def test_options_arrive(desk: Desk) -> None:
    found = desk.options(
        raw(layout=pb.SAMPLE_LAYOUT_CHW),
        strength=0.5,
        output_container=pb.CONTAINER_RAW,
        jpeg_quality=1,
        service_class=pb.SERVICE_CLASS_BULK,
    )
    assert found == Options(0.5, Container.RAW, 1, SampleLayout.CHW, ServiceClass.BULK, ReportLevel.UNSPECIFIED)


@pytest.mark.parametrize("strength", [0.0, 1.0, 1e-45])
def test_the_least_and_the_greatest_strength_are_taken(desk: Desk, strength: float) -> None:
    assert desk.options(strength=strength).strength == pytest.approx(strength, abs=1e-44)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf, -0.0001, 1.0001])
def test_a_strength_outside_0_to_1_is_refused(desk: Desk, strength: float) -> None:
    with pytest.raises(InvalidOption) as raised:
        desk.options(strength=strength)
    assert raised.value.field == "options.strength"
    assert_explains_itself(raised.value, "0..1")


@pytest.mark.parametrize("jpeg_quality", [0, 101, -1, 2**31 - 1])
def test_a_quality_outside_1_to_100_is_refused_and_0_is_not_left_out(desk: Desk, jpeg_quality: int) -> None:
    with pytest.raises(InvalidOption) as raised:
        desk.options(jpeg_quality=jpeg_quality)
    assert raised.value.field == "options.jpeg_quality"
    assert_explains_itself(raised.value, jpeg_quality)


def test_the_greatest_quality_is_taken(desk: Desk) -> None:
    assert desk.options(jpeg_quality=100).jpeg_quality == 100


@pytest.mark.parametrize("number", [99, -1])
@pytest.mark.parametrize(
    ("option", "known"), [("output_container", "CONTAINER_PNG"), ("service_class", "SERVICE_CLASS_BULK")]
)
def test_an_unknown_choice_is_refused_with_those_that_are_known(
    desk: Desk, option: str, known: str, number: int
) -> None:
    with pytest.raises(InvalidOption) as raised:
        desk.options(**{option: cast("Any", number)})
    assert raised.value.field == f"options.{option}"
    assert_explains_itself(raised.value, number)
    assert known in str(raised.value)


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("", "7"), ("gaussian-base", "2")])
def test_a_model_that_is_not_loaded_is_unknown(desk: Desk, name: str, version: str) -> None:
    with pytest.raises(ModelUnknown):
        desk.recipe(raw(), model=name, model_version=version)


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [encoded(container=pb.CONTAINER_PNG), raw(black_level=3.0)], ids=["file", "raw"])
def test_requests_alike_share_a_recipe_and_it_is_the_one_that_a_new_desk_makes(
    bench: Bench, desk: Desk, image: pb.Image
) -> None:
    first = desk.recipe(image, strength=0.5)
    assert desk.recipe(image, strength=0.5) is first, "orders are compared by identity: these go side by side"
    again = Desk(bench).recipe(image, strength=0.5)
    assert (again.own, again.answer, again.model) == (first.own, first.answer, first.model)
    assert again.order.options == first.order.options
    assert desk.recipe(image, strength=0.25) is not first


def test_a_refusal_is_as_good_the_second_time(desk: Desk) -> None:
    texts = []
    for _ in range(2):
        with pytest.raises(InvalidOption) as raised:
            desk.recipe(raw(), strength=2.0)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]


def test_what_is_remembered_is_bounded_in_number_and_size(desk: Desk) -> None:
    remembered = desk.recipes._remembered[ServiceClass.INTERACTIVE]
    for size_px in range(1, 3000):
        desk.recipe(raw(height_px=1, width_px=size_px, channel_count=1))
        assert len(remembered) <= 1024
    assert desk.raw_order(raw(height_px=1, width_px=77, channel_count=1)).geometry.header.width_px == 77
    before = dict(remembered)
    rest = split(raw()).rest + b"\xfa\x07\xff\x0f" + bytes(2047)  # what no version of the API knows, as long as that
    assert isinstance(desk.recipes.of(rest).order, RawOrder)
    assert remembered == before
    assert max(len(rest) for rest in remembered) < 100


def test_what_is_no_request_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidMessage):
        desk.recipes.of(b"\xff")


@pytest.mark.parametrize("image", [encoded(container=pb.CONTAINER_PNG), raw(black_level=3.0)], ids=["file", "raw"])
def test_an_image_in_chunks_has_the_recipe_of_the_same_image_in_one_message(desk: Desk, image: pb.Image) -> None:
    header = pb.ImageHeader(image=image, options=pb.DenoiseOptions(strength=0.5))
    for content in (header.image.raw, header.image.encoded):
        if content.data:
            content.data = b""
    chunked, whole = desk.recipes.of_header(header), desk.recipe(image, strength=0.5)
    assert (chunked.own, chunked.answer, chunked.model) == (whole.own, whole.answer, whole.model)
    assert chunked.order.options == whole.order.options


def test_an_image_in_chunks_may_be_larger(desk: Desk) -> None:
    large = raw(height_px=1001, width_px=1000, channel_count=1, data=b"")
    with pytest.raises(ImageTooLarge):
        desk.recipe(large)
    order = desk.recipes.of_header(pb.ImageHeader(image=large)).order
    assert isinstance(order, RawOrder)
    with pytest.raises(InvalidOption):
        desk.recipes.of_header(pb.ImageHeader(image=large, options=pb.DenoiseOptions(strength=2.0)))


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [pb.CONTAINER_PNG, pb.CONTAINER_JPEG])
async def test_an_answer_in_a_file_says_what_it_is(desk: Desk, container: pb.Container) -> None:
    for image in (encoded(), raw()):
        response = await desk.answer(image, output_container=container)
        answer = response.image.encoded
        assert without_data(answer) == pb.EncodedImage(container=container)
        header = codec.sniff(answer.data, claimed=None)
        assert pb.Container.Name(container) == f"CONTAINER_{header.container.name}"
        assert response.model == pb.ModelReference(name="gaussian-base", version="1", digest="f00d")


ASKED_FOR_RAW: dict[str, Callable[[Samples], pb.Image]] = {
    "file": lambda samples: pb.Image(encoded=pb.EncodedImage(data=png(samples))),
    "hwc": lambda samples: raw_of(samples, pb.SAMPLE_LAYOUT_UNSPECIFIED),
    "chw": lambda samples: raw_of(samples, pb.SAMPLE_LAYOUT_CHW),
}
NUMBERS = {
    np.dtype(np.uint8): pb.SAMPLE_TYPE_U8,
    np.dtype(np.uint16): pb.SAMPLE_TYPE_U16,
    np.dtype(np.float32): pb.SAMPLE_TYPE_F32,
}


def raw_of(samples: Samples, layout: pb.SampleLayout, **fields: Any) -> pb.Image:
    ordered = samples.transpose(2, 0, 1) if layout == pb.SAMPLE_LAYOUT_CHW else samples
    height_px, width_px, channel_count = samples.shape
    return pb.Image(
        raw=pb.RawImage(
            data=ordered.tobytes(),
            sample_type=NUMBERS[samples.dtype],
            layout=layout,
            height_px=height_px,
            width_px=width_px,
            channel_count=channel_count,
            **fields,
        )
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("asked", ASKED_FOR_RAW)
async def test_an_answer_in_raw_samples_can_be_read_by_what_it_says(
    desk: Desk, dtype: Any, channels: int, asked: str
) -> None:
    if asked == "file" and dtype == np.float32:
        dtype = np.uint16
    samples = noise((5, 7, channels), dtype)
    response = await desk.answer(ASKED_FOR_RAW[asked](samples), output_container=pb.CONTAINER_RAW)
    answer = response.image.raw
    expected = samples.copy()
    colour_count = channels - (channels in {2, 4})
    expected[:, :, :colour_count] = negative(samples)[:, :, :colour_count]
    layout = pb.SAMPLE_LAYOUT_CHW if asked == "chw" else pb.SAMPLE_LAYOUT_HWC
    white_level = {1: 255.0, 2: 65535.0, 4: 1.0}[samples.dtype.itemsize]
    wanted = raw_of(expected, layout, black_level=0.0, white_level=white_level).raw
    assert without_data(answer) == without_data(wanted)
    found = np.frombuffer(answer.data, dtype)
    np.testing.assert_allclose(found, np.frombuffer(wanted.data, dtype), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "image",
    [
        encoded(),
        encoded(container=pb.CONTAINER_PNG, black_level=0.0, white_level=200.0),
        raw(),
        raw(black_level=0.0),
        raw(layout=pb.SAMPLE_LAYOUT_CHW, black_level=3.0, white_level=9.0),
        raw(channel_count=2, width_px=9, height_px=1),
    ],
)
async def test_an_untouched_image_comes_back_as_it_was_sent_without_a_report(desk: Desk, image: pb.Image) -> None:
    response = await desk.answer(image, strength=0.0)
    assert response.image == image
    assert not response.HasField("report")
    assert not response.HasField("batching")
    assert response.HasField("timings")
    assert response.HasField("model")


@pytest.mark.parametrize(("sigma", "is_in_range"), [(4.99, False), (5.0, True), (50.0, True), (50.01, False)])
def test_findings_are_reported_beside_the_range_of_the_model(desk: Desk, sigma: float, *, is_in_range: bool) -> None:
    outcome = Outcome(Container.RAW, bytes(18), None, FINDINGS._replace(noise_sigma=sigma), NO_TIME)
    response = desk.reply(outcome, desk.recipe(raw()))
    assert response.report.noise_sigma == pytest.approx(sigma)
    assert response.report.sigma_in_trained_range is is_in_range
    assert response.report.clipped_sample_count == 11
    assert response.batching == pb.Batching(tile_count=4, shared_request_count=3, shared_client_count=2)


def test_noise_that_the_model_does_not_estimate_is_left_out_and_not_zero(desk: Desk) -> None:
    outcome = Outcome(Container.RAW, bytes(18), None, FINDINGS._replace(noise_sigma=None), NO_TIME)
    assert desk.reply(outcome, desk.recipe(raw())).report == pb.NoiseReport(clipped_sample_count=11)


def test_a_model_of_unknown_noise_has_no_range_that_an_image_could_be_in(
    contract: ModelContract, metrics: Metrics
) -> None:
    """Its noise was in the training images already, so that nothing says how much it was."""
    desk = Desk(Bench(replace(contract, noise=NoiseSpec()), metrics))
    report = desk.reply(Outcome(Container.RAW, bytes(18), None, FINDINGS, NO_TIME), desk.recipe(raw())).report
    assert report == pb.NoiseReport(noise_sigma=12.5, clipped_sample_count=11)


def test_one_reply_has_nothing_of_the_one_before(desk: Desk) -> None:
    """They are filled into one message, again and again."""
    recipe = desk.recipe(raw())
    outcomes = [
        Outcome(Container.RAW, bytes(18), None, FINDINGS, Timings(1.5, 2.5, 3.5, 4.5, 5.5)),
        Outcome(Container.RAW, b"", None, FINDINGS._replace(noise_sigma=None, clipped_sample_count=0), NO_TIME),
        Outcome(Container.RAW, bytes(18), None, None, NO_TIME),
    ]
    for outcome in (*outcomes, *reversed(outcomes)):
        assert desk.reply(outcome, recipe) == Desk(desk.bench).reply(outcome, recipe)


def test_the_answer_to_an_image_in_chunks_has_all_but_its_data(desk: Desk) -> None:
    response = desk.reply(Outcome(Container.RAW, b"", None, FINDINGS, NO_TIME), desk.recipe(raw()))
    assert response.image.WhichOneof("content") == "raw"
    assert (response.image.raw.height_px, response.image.raw.data) == (2, b"")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, (0, 0)),
        (1.25, (1, 250_000_000)),
        (0.9999999999, (0, 999_999_999)),
        (-0.5, (0, 0)),
        (1e9, (10**9, 0)),
    ],
)
def test_times_are_legal_durations(desk: Desk, seconds: float, expected: tuple[int, int]) -> None:
    timings = Timings(decode_s=1.0, queue_s=seconds, compute_s=2.0, encode_s=3.0, total_s=4.0)
    found = desk.reply(Outcome(Container.RAW, bytes(18), None, None, timings), desk.recipe(raw())).timings
    assert (found.queue.seconds, found.queue.nanos) == expected
    assert [getattr(found, name).seconds for name in ("decode", "compute", "encode", "total")] == [1, 2, 3, 4]


@given(st.floats(-1e9, 1e9))
def test_any_time_is_a_legal_duration_and_right_to_the_nanosecond(seconds: float) -> None:
    replies = Replies(report_one_in=16)
    recipe = Recipe(cast("Any", None), wire.Content(is_raw=True, head=b""), None, b"")
    outcome = Outcome(Container.RAW, b"", None, None, NO_TIME._replace(total_s=seconds))
    total = pb.DenoiseResponse.FromString(b"".join(replies.response_parts(outcome, recipe)[0])).timings.total
    assert 0 <= total.nanos < 10**9
    assert total.seconds + total.nanos * 1e-9 == pytest.approx(max(0.0, seconds), rel=1e-12, abs=1.1e-9)


def test_an_answer_that_does_not_fit_a_message_says_what_to_ask_for() -> None:
    error = convert.too_large(123, 45)
    assert error.field == "options.output_container"
    assert_explains_itself(error, 123)
    assert_explains_itself(error, 45)


# --- models -----------------------------------------------------------------------------------------------------------


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


def test_an_inspection_is_a_request_for_the_report_alone(desk: Desk) -> None:
    options = pb.InspectOptions(
        report_level=pb.REPORT_LEVEL_SURE, noise_sigma=12.0, service_class=pb.SERVICE_CLASS_BULK
    )
    message = pb.InspectRequest(image=raw(), options=options).SerializeToString()
    found = desk.recipes.of_inspection(wire.split_request(message).rest).order.options
    assert found == Options(
        service_class=ServiceClass.BULK, report_level=ReportLevel.SURE, report_only=True, noise_sigma=12.0
    )
    bare = pb.InspectRequest(image=raw()).SerializeToString()
    assert desk.recipes.of_inspection(wire.split_request(bare).rest).order.options.report_level is ReportLevel.FAST


@pytest.mark.parametrize(
    ("part", "whole"), [(pb.InspectOptions, pb.DenoiseOptions), (pb.InspectResponse, pb.DenoiseResponse)]
)
def test_inspections_are_numbered_as_what_they_are_read_and_written_as(part: Any, whole: Any) -> None:
    numbers = {field.name: (field.number, field.type) for field in whole.DESCRIPTOR.fields}
    assert {field.name: (field.number, field.type) for field in part.DESCRIPTOR.fields}.items() <= numbers.items()


def test_a_reply_without_an_image_is_an_inspections(desk: Desk) -> None:
    recipe = desk.recipe(raw(), report_only=True)
    energy = pb.DenoiseResponse(energy=pb.EnergyReport(level=pb.REPORT_LEVEL_FAST)).SerializeToString()
    parts, size_bytes = desk.replies.response_parts(
        Outcome(Container.RAW, b"", None, FINDINGS, NO_TIME, energy), recipe
    )
    message = b"".join(parts)
    assert len(message) == size_bytes
    assert pb.InspectResponse.FromString(message).energy.level == pb.REPORT_LEVEL_FAST
    assert not pb.DenoiseResponse.FromString(message).HasField("image")


def test_an_image_that_was_left_out_says_so_unless_nobody_would_have_one(desk: Desk) -> None:
    outcome = Outcome(Container.RAW, bytes(18), None, FINDINGS, NO_TIME)
    unasked = desk.reply(outcome, desk.recipe(raw())).energy
    assert (unasked.level, unasked.sampled_one_in) == (pb.REPORT_LEVEL_NONE, 16)
    assert not desk.reply(outcome, desk.recipe(raw(), report_level=pb.REPORT_LEVEL_NONE)).HasField("energy")


@pytest.mark.parametrize(
    ("field", "value"),
    [("noise_sigma", 0.0), ("noise_sigma", float("nan")), ("noise_sigma", 256.0), ("report_level", 7)],
)
def test_options_of_the_report_out_of_their_range_are_refused(desk: Desk, field: str, value: float) -> None:
    with pytest.raises(InvalidOption) as caught:
        desk.recipe(raw(), **{field: value})
    assert caught.value.field == f"options.{field}"
