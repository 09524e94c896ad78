"""NoiseSpec as data, its policy, and the keys that the draws belong to; the stages have tests of their own."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoised.noise import (
    Demosaic,
    Gaussian,
    Jpeg,
    NoiseSpec,
    PoissonGaussian,
    Resize,
    Stage,
    benchmark_noisy,
    keyed_rng,
)

# Background load must not decide whether a test passes.
unhurried = settings(deadline=None, max_examples=60)

PLAIN = NoiseSpec.gaussian(0.0, 50.0)
GAUSSIAN: Mapping[str, object] = {"kind": "gaussian", "sigma_min": 0.0, "sigma_max": 50.0}
VALID: Mapping[str, object] = {"stages": [GAUSSIAN]}
CHAIN = NoiseSpec(
    stages=(
        Gaussian(2.0, 30.0, share=0.7),
        PoissonGaussian(0.001, 0.02, 0.5, 4.0, gain_draw="log_uniform", share=0.6),
        Demosaic(share=0.4),
        Resize(0.4, 0.9, share=0.4),
        Jpeg(40, 95, share=0.5),
    ),
    shuffle_share=0.3,
    grey_share=0.2,
    clean_share=0.1,
)

GRID_STEPS = {"u8": 255, "u16": 65535}

shares = st.floats(0, 1)


@st.composite
def ranges(draw: st.DrawFn, least: float, most: float) -> tuple[float, float]:
    low, high = sorted(draw(st.tuples(st.floats(least, most), st.floats(least, most))))
    return low, high


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    share = draw(shares)
    kind = draw(st.sampled_from(["gaussian", "poisson_gaussian", "log", "resize", "demosaic", "jpeg"]))
    if kind == "gaussian":
        return Gaussian(*draw(ranges(0, 255)), share=share)
    if kind == "poisson_gaussian":
        return PoissonGaussian(*draw(ranges(0, 1)), *draw(ranges(0, 255)), share=share)
    if kind == "log":
        return PoissonGaussian(*draw(ranges(1e-6, 1)), gain_draw="log_uniform", share=share)
    if kind == "resize":
        return Resize(*draw(ranges(0.125, 1)), share=share)
    if kind == "jpeg":
        low, high = sorted(draw(st.tuples(st.integers(1, 100), st.integers(1, 100))))
        return Jpeg(low, high, subsampling=draw(st.sampled_from(["4:4:4", "4:2:0"])), share=share)
    return Demosaic(share=share)


@st.composite
def specs(draw: st.DrawFn) -> NoiseSpec:
    clip = draw(st.booleans())
    return NoiseSpec(
        stages=tuple(draw(st.lists(stages(), max_size=4))),
        shuffle_share=draw(shares),
        clip=clip,
        quantise=draw(st.sampled_from(["none", "u8", "u16"])) if clip else "none",
        grey_share=draw(shares),
        clean_share=draw(shares),
    )


def grey(value: float, side_px: int = 256) -> NDArray[np.float32]:
    return np.full((side_px, side_px, 3), value, dtype=np.float32)


def ramp(side_px: int = 64) -> NDArray[np.float32]:
    """All 8-bit levels, so that both ends of the range are clipped."""
    levels = np.arange(side_px * side_px * 3).reshape(side_px, side_px, 3) % 256
    return levels.astype(np.float32) / np.float32(255)


# The spec as data


@unhurried
@given(specs())
def test_a_spec_survives_json(spec: NoiseSpec) -> None:
    assert NoiseSpec.from_json(spec.to_json()) == spec
    assert NoiseSpec.from_json(spec.to_json()).digest() == spec.digest()


def test_the_canonical_text_and_its_digest_never_change() -> None:
    # A changed text would silently part every model file from the run that made it.
    text = (
        '{"clean_share":0.0,"clip":true,"grey_share":0.0,"quantise":"u8","shuffle_share":0.0,'
        '"stages":[{"kind":"gaussian","share":1.0,"sigma_max":50.0,"sigma_min":0.0}]}'
    )
    assert PLAIN.to_json() == text
    assert PLAIN.digest() == hashlib.sha256(text.encode("ascii")).hexdigest()
    assert PLAIN.digest() == "2767ae5315e5e346ceff22d05e517fc86788677b022371440e19ebf807554c83"


def test_every_kind_of_stage_is_told_apart_by_its_name() -> None:
    tree = json.loads(CHAIN.to_json())
    assert [stage["kind"] for stage in tree["stages"]] == ["gaussian", "poisson_gaussian", "demosaic", "resize", "jpeg"]
    assert [type(stage) for stage in NoiseSpec.from_json(json.dumps(tree)).stages] == [
        Gaussian,
        PoissonGaussian,
        Demosaic,
        Resize,
        Jpeg,
    ]


def test_defaults_may_be_left_out_and_key_order_does_not_matter() -> None:
    backwards = {key: GAUSSIAN[key] for key in sorted(GAUSSIAN, reverse=True)}
    assert NoiseSpec.from_json(json.dumps({"stages": [backwards]})) == PLAIN
    assert NoiseSpec.from_json("{}") == NoiseSpec()


@unhurried
@given(specs(), specs())
def test_digests_are_equal_exactly_when_specs_are(one: NoiseSpec, other: NoiseSpec) -> None:
    assert (one.digest() == other.digest()) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NoiseSpec.gaussian(5, 50), NoiseSpec.gaussian(5.0, 50.0)),
        (NoiseSpec.gaussian(-0.0, 50.0), NoiseSpec.gaussian(0.0, 50.0)),
        (NoiseSpec.gaussian(0.0, 50.0, grey_share=1), NoiseSpec.gaussian(0.0, 50.0, grey_share=1.0)),
        (NoiseSpec((Demosaic(share=1),)), NoiseSpec((Demosaic(share=1.0),))),
    ],
    ids=["integer sigma", "negative zero", "integer share", "integer share of a stage"],
)
def test_equal_specs_have_equal_digests_however_the_numbers_were_written(one: NoiseSpec, other: NoiseSpec) -> None:
    assert one == other
    assert one.digest() == other.digest()


def test_unknown_keys_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown keys.*colour, gain"):
        NoiseSpec.from_json(json.dumps({**VALID, "gain": 2, "colour": "blue"}))
    with pytest.raises(ValueError, match=r"stages\[0\] has unknown keys: gain"):
        NoiseSpec.from_json(json.dumps({"stages": [{**GAUSSIAN, "gain": 2}]}))


@pytest.mark.parametrize("missing", sorted(GAUSSIAN))
def test_missing_keys_of_a_stage_are_refused_by_name(missing: str) -> None:
    stage = {key: value for key, value in GAUSSIAN.items() if key != missing}
    with pytest.raises(ValueError, match=rf"stages\[1\].*{missing}"):
        NoiseSpec.from_json(json.dumps({"stages": [GAUSSIAN, stage]}))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '"gaussian"'])
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|Expecting"):
        NoiseSpec.from_json(text)


POISSON: Mapping[str, object] = {"kind": "poisson_gaussian", "gain_min": 0.001, "gain_max": 0.01}
JPEG: Mapping[str, object] = {"kind": "jpeg", "quality_min": 50, "quality_max": 90}
RESIZE: Mapping[str, object] = {"kind": "resize", "scale_min": 0.5, "scale_max": 0.9}


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ({"kind": "poisson"}, "poisson.*demosaic, gaussian"),
        ({**GAUSSIAN, "sigma_min": -0.001}, r"-0\.001"),
        ({**GAUSSIAN, "sigma_min": 50.5}, r"50\.5\.\.50\.0"),
        ({**GAUSSIAN, "sigma_max": 255.5}, r"255\.5"),
        ({**GAUSSIAN, "sigma_min": float("nan")}, "nan"),
        ({**GAUSSIAN, "sigma_max": float("nan")}, "nan"),
        ({**GAUSSIAN, "sigma_max": float("inf")}, "inf"),
        ({**GAUSSIAN, "share": 1.5}, r"share is 1\.5"),
        ({**POISSON, "gain_max": 1.5}, r"gain range is 0\.001\.\.1\.5"),
        ({**POISSON, "gain_min": 0.0, "gain_draw": "log_uniform"}, r"gain_min is 0\.0.*above 0"),
        ({**POISSON, "gain_draw": "normal"}, "gain_draw is 'normal'"),
        ({**POISSON, "read_sigma_min": 3.0}, r"read_sigma range is 3\.0\.\.0\.0"),
        ({**RESIZE, "scale_max": 1.5}, r"scale range is 0\.5\.\.1\.5"),
        ({**JPEG, "quality_min": 0}, r"quality range is 0\.\.90"),
        ({**JPEG, "subsampling": "4:1:1"}, "4:1:1"),
        ({"kind": "demosaic", "share": -1.0}, r"share is -1\.0"),
        ({"kind": "demosaic", "share": float("nan")}, "nan"),
    ],
    ids=str,
)
def test_stages_out_of_range_are_refused_and_named(stage: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"stages\[0\].*{named}"):
        NoiseSpec.from_json(json.dumps({"stages": [stage]}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"quantise": "u9"}, "u9.*none, u8, u16"),
        ({"quantise": "u8", "clip": False}, "clip"),
        ({"quantise": "u16", "clip": False}, "clip"),
        ({"grey_share": -0.1}, r"grey_share is -0\.1"),
        ({"grey_share": 1.1}, r"grey_share is 1\.1"),
        ({"grey_share": float("nan")}, "nan"),
        ({"clean_share": -0.1}, r"clean_share is -0\.1"),
        ({"clean_share": 1.1}, r"clean_share is 1\.1"),
        ({"shuffle_share": 2.0}, r"shuffle_share is 2\.0"),
    ],
)
def test_a_policy_out_of_range_is_refused_and_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        NoiseSpec.from_json(json.dumps({**VALID, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": "false"},
        {"clip": None, "quantise": "none"},
        {"clip": 1},
        {"grey_share": "0.5"},
        {"grey_share": False},
        {"clean_share": "0"},
        {"stages": "gaussian"},
        {"stages": {"kind": "gaussian"}},
        {"stages": ["gaussian"]},
        {"stages": [None]},
        {"stages": [{**GAUSSIAN, "sigma_min": True}]},
        {"stages": [{**GAUSSIAN, "sigma_max": "50"}]},
        {"stages": [{**JPEG, "quality_min": 50.5}]},
    ],
    ids=str,
)
def test_values_of_another_type_are_refused_when_a_spec_is_read(changes: dict[str, object]) -> None:
    # "false" is true in Python: a spec that was meant not to clip would clip.
    with pytest.raises(ValueError, match=next(iter(changes))):
        NoiseSpec.from_json(json.dumps({**VALID, **changes}))


# The bounds and the severities


@pytest.mark.parametrize(
    ("spec", "sigmas"),
    [
        (NoiseSpec(), (0.0, 0.0)),
        (NoiseSpec.gaussian(5.0, 50.0, clean_share=0.5), (5.0, 50.0)),
        (NoiseSpec((Gaussian(3.0, 30.0), Gaussian(4.0, 40.0))), (5.0, 50.0)),
        (NoiseSpec((Gaussian(3.0, 30.0), Gaussian(4.0, 40.0, share=0.5))), (3.0, 50.0)),
        (NoiseSpec((Gaussian(3.0, 30.0, share=0.0),)), (0.0, 0.0)),
        (NoiseSpec((PoissonGaussian(0.0, 2 * (40 / 255) ** 2, 3.0, 30.0),)), (3.0, 50.0)),
        (NoiseSpec((Gaussian(3.0, 30.0), Demosaic(), Resize(0.5, 0.5), Jpeg(1, 100))), (3.0, 30.0)),
    ],
)
def test_the_sigma_bounds_are_those_on_mid_grey_over_all_draws(spec: NoiseSpec, sigmas: tuple[float, float]) -> None:
    assert (spec.sigma_min, spec.sigma_max) == pytest.approx(sigmas, abs=1e-12)


@unhurried
@given(specs(), st.integers(0, 2**32 - 1))
def test_no_draw_of_additive_noise_leaves_the_sigma_bounds(spec: NoiseSpec, seed: int) -> None:
    additive = tuple(stage for stage in spec.stages if isinstance(stage, Gaussian | PoissonGaussian))
    sigma = NoiseSpec(additive).apply(np.full((4, 4, 1), 0.5, np.float32), keyed_rng(seed)).sigma_map * 255
    assert np.all(sigma >= spec.sigma_min * (1 - 1e-5))
    assert np.all(sigma <= spec.sigma_max * (1 + 1e-5))


@unhurried
@given(specs(), shares)
def test_a_severity_is_one_fixed_kind_of_noise_within_the_family(spec: NoiseSpec, severity: float) -> None:
    fixed = spec.at(severity)
    assert fixed.at(0.0) == fixed.at(1.0) == fixed
    assert {fixed.clean_share, fixed.grey_share, fixed.shuffle_share} <= {0.0, 1.0}
    assert fixed.sigma_min == pytest.approx(fixed.sigma_max)
    assert fixed.sigma_max <= spec.sigma_max * (1 + 1e-9)
    assert (fixed.clip, fixed.quantise) == (spec.clip, spec.quantise)


@unhurried
@given(specs(), shares, shares)
def test_more_severe_means_more_noise(spec: NoiseSpec, one: float, other: float) -> None:
    mild, severe = sorted((one, other))
    assert spec.at(mild).sigma_max <= spec.at(severe).sigma_max * (1 + 1e-9)


def test_the_ends_of_the_severities_are_the_ends_of_the_ranges() -> None:
    spec = NoiseSpec(
        (Gaussian(1.0, 9.0), PoissonGaussian(0.001, 0.1, gain_draw="log_uniform"), Resize(0.5, 1.0), Jpeg(30, 90))
    )
    mild, middle, severe = (spec.at(severity).stages for severity in (0.0, 0.5, 1.0))
    assert mild == (Gaussian(1.0, 1.0), spec.at(0.0).stages[1], Resize(1.0, 1.0), Jpeg(90, 90))
    assert severe == (Gaussian(9.0, 9.0), spec.at(1.0).stages[1], Resize(0.5, 0.5), Jpeg(30, 30))
    assert middle[0] == Gaussian(5.0, 5.0)
    gains = [chosen[1].gain_max for chosen in (mild, middle, severe) if isinstance(chosen[1], PoissonGaussian)]
    assert gains == pytest.approx([0.001, 0.01, 0.1])


def test_a_rare_stage_happens_at_the_most_severe_end_alone() -> None:
    spec = NoiseSpec((Demosaic(share=0.25), Demosaic(share=0.0), Demosaic()))
    happens = {severity: [s.share for s in spec.at(severity).stages] for severity in (0.0, 0.7, 0.75, 1.0)}
    assert happens == {0.0: [0, 0, 1], 0.7: [0, 0, 1], 0.75: [1, 0, 1], 1.0: [1, 0, 1]}


@pytest.mark.parametrize("severity", [-0.01, 1.01, float("nan")])
def test_a_severity_out_of_range_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match="severity is"):
        PLAIN.at(severity)


# What is drawn


def drawn_sigmas(spec: NoiseSpec, count: int = 2000) -> NDArray[np.float64]:
    pixel = np.full((1, 1, 1), 0.5, np.float32)
    return np.array([spec.apply(pixel, keyed_rng(0, 0, index)).sigma_map[0, 0] * 255.0 for index in range(count)])


def test_drawn_levels_fill_the_range_evenly() -> None:
    counts, _ = np.histogram(drawn_sigmas(NoiseSpec.gaussian(10.0, 50.0)), bins=10, range=(10.0, 50.001))
    # Chi-square with 9 degrees of freedom: 33.7 is its 99.99 % quantile.
    assert np.sum((counts - 200.0) ** 2 / 200.0) < 33.7


def test_gains_drawn_log_uniformly_fill_every_octave_evenly() -> None:
    spec = NoiseSpec((PoissonGaussian(2**-10, 2**-2, gain_draw="log_uniform"),))
    gains = (drawn_sigmas(spec) / 255) ** 2 / 0.5
    counts, _ = np.histogram(np.log2(gains), bins=8, range=(-10, -2))
    # Chi-square with 7 degrees of freedom: 29.9 is its 99.99 % quantile.
    assert np.sum((counts - 250.0) ** 2 / 250.0) < 29.9


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_clean_share_of_images_gets_no_noise(share: float) -> None:
    clean_count = int(np.sum(drawn_sigmas(NoiseSpec.gaussian(5.0, 50.0, clean_share=share)) == 0))
    # Five standard errors of a count.
    assert clean_count == pytest.approx(2000 * share, abs=5 * np.sqrt(2000 * share * (1 - share)))


def test_a_clean_share_changes_no_level_of_the_other_images() -> None:
    mixed = drawn_sigmas(NoiseSpec.gaussian(5.0, 50.0, clean_share=0.3), 100)
    always = drawn_sigmas(NoiseSpec.gaussian(5.0, 50.0), 100)
    assert set(mixed[mixed != always]) == {0.0}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_stage_happens_to_its_share_of_the_images(share: float) -> None:
    sigmas = drawn_sigmas(NoiseSpec((Gaussian(3.0, 3.0), Gaussian(4.0, 4.0, share=share))))
    assert set(np.round(sigmas, 3)) <= {3.0, 5.0}
    assert np.sum(sigmas > 4) == pytest.approx(2000 * share, abs=5 * np.sqrt(2000 * share * (1 - share)))


def test_the_shuffled_share_of_images_has_its_stages_in_another_order() -> None:
    # Noise after a JPEG file is off the grid of 8-bit values, a JPEG file after noise is on it.
    clean = np.full((16, 16, 1), 0.5, np.float32)
    counts = {}
    for share in (0.0, 0.6):
        spec = NoiseSpec((Gaussian(5.0, 5.0), Jpeg(50, 50)), shuffle_share=share, clip=False, quantise="none")
        images = [spec.apply(clean, keyed_rng(index)).image * 255 for index in range(400)]
        counts[share] = sum(bool(np.abs(image - np.rint(image)).max() > 0.01) for image in images)
    # Half of the shuffled orders are the given one.
    assert counts[0.0] == 0
    assert counts[0.6] == pytest.approx(120, abs=5 * np.sqrt(400 * 0.3 * 0.7))


# The policy


@unhurried
@given(specs(), st.integers(0, 1000))
def test_clipping_and_rounding_are_exact(spec: NoiseSpec, index: int) -> None:
    raw = NoiseSpec(spec.stages, shuffle_share=spec.shuffle_share, clip=False, quantise="none")
    expected: NDArray[np.floating] = raw.apply(ramp(16), keyed_rng(index)).image
    if spec.stages and spec.clip:
        expected = np.minimum(np.maximum(expected, np.float32(0)), np.float32(1))
    if spec.stages and spec.quantise != "none":
        steps = np.float32(GRID_STEPS[spec.quantise])
        expected = np.round(expected * steps) / steps
    coloured = NoiseSpec(spec.stages, spec.shuffle_share, spec.clip, spec.quantise)
    noisy = coloured.apply(ramp(16), keyed_rng(index))
    assert noisy.image.dtype == noisy.sigma_map.dtype == noisy.clean.dtype == np.float32
    np.testing.assert_array_equal(noisy.image, expected)


@pytest.mark.parametrize(("quantise", "integer"), [("u8", np.uint8), ("u16", np.uint16)])
def test_quantised_values_are_exactly_those_of_an_integer_image(
    quantise: str, integer: type[np.unsignedinteger]
) -> None:
    spec = NoiseSpec.from_json(json.dumps({**VALID, "quantise": quantise})).at(1.0)
    steps = GRID_STEPS[quantise]
    noisy = spec.apply(ramp(), keyed_rng(5)).image
    stored = np.rint(noisy.astype(np.float64) * steps).astype(integer)
    # What a decoder makes of the stored integers is bit for bit what the network saw in training.
    np.testing.assert_array_equal(stored.astype(np.float32) / np.float32(steps), noisy)
    assert noisy.min() == 0.0
    assert noisy.max() == 1.0
    assert len(np.unique(stored)) > min(steps, 5000) * 0.9


def test_noise_of_level_zero_returns_an_eight_bit_image_unchanged() -> None:
    noisy = PLAIN.at(0.0).apply(ramp(), keyed_rng(6))
    np.testing.assert_array_equal(noisy.image, ramp())
    np.testing.assert_array_equal(noisy.sigma_map, 0)


def test_without_stages_a_picture_stays_as_it_is_off_every_grid_and_out_of_range() -> None:
    clean = np.linspace(-0.5, 1.5, 300, dtype=np.float32).reshape(10, 10, 3)
    noisy = NoiseSpec().apply(clean, keyed_rng(0))
    np.testing.assert_array_equal(noisy.image, clean)
    np.testing.assert_array_equal(noisy.sigma_map, 0)


@pytest.mark.parametrize("spec", [NoiseSpec(), PLAIN, CHAIN], ids=["none", "gaussian", "chain"])
def test_the_clean_image_is_not_written_to(spec: NoiseSpec) -> None:
    clean = ramp(32)
    clean.flags.writeable = False
    for index in range(20):
        noisy = spec.apply(clean, keyed_rng(index))
        assert not np.shares_memory(noisy.image, clean)
        assert noisy.image.flags.writeable
        assert noisy.sigma_map.flags.writeable


# Grey


@pytest.mark.parametrize("index", range(12))
def test_a_grey_image_is_grey_in_picture_and_target_whatever_happens_to_it(index: int) -> None:
    spec = NoiseSpec(CHAIN.stages, shuffle_share=0.5, grey_share=1.0)
    noisy = spec.apply(ramp(), keyed_rng(index))
    assert noisy.image.shape == noisy.clean.shape == (64, 64, 3)
    for picture in (noisy.image, noisy.clean):
        np.testing.assert_array_equal(picture, np.repeat(picture[:, :, :1], 3, axis=2))


def test_the_grey_target_is_the_luma_on_the_grid_of_the_spec() -> None:
    clean = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    luma = clean @ np.array([0.299, 0.587, 0.114])
    for quantise, steps in GRID_STEPS.items():
        spec = NoiseSpec.from_json(json.dumps({**VALID, "quantise": quantise, "grey_share": 1}))
        levels = spec.apply(clean, keyed_rng(0)).clean[..., 0] * np.float64(steps)
        np.testing.assert_allclose(levels, np.rint(levels), atol=0.01)
        np.testing.assert_allclose(levels, luma * steps, atol=0.51)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_grey_share_of_images_is_made_grey(share: float) -> None:
    spec = NoiseSpec.gaussian(5.0, 5.0, grey_share=share)
    colour = ramp(4)
    grey_count = sum(
        bool(np.array_equal(noisy.image[..., 0], noisy.image[..., 2]))
        for noisy in (spec.apply(colour, keyed_rng(0, index)) for index in range(1000))
    )
    assert grey_count == pytest.approx(1000 * share, abs=5 * np.sqrt(1000 * share * (1 - share)))


def test_an_image_that_is_not_made_grey_is_its_own_target() -> None:
    clean = ramp(8)
    assert PLAIN.apply(clean, keyed_rng(0)).clean is clean


# The map of a picture without clean truth


def test_the_map_of_a_noisy_picture_follows_its_local_mean() -> None:
    gain, read_sigma = 0.004, 3.0
    spec = NoiseSpec((PoissonGaussian(gain, gain, read_sigma, read_sigma),))
    clean = np.repeat(np.linspace(0.05, 0.9, 128, dtype=np.float32)[None, :, None], 128, axis=0)
    noisy = spec.apply(clean, keyed_rng(1))
    np.testing.assert_allclose(spec.sigma_map_of(clean)[:, 4:-4], noisy.sigma_map[:, 4:-4], rtol=1e-3)
    found = spec.sigma_map_of(noisy.image)
    assert found.shape == (128, 128)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0)[4:-4], noisy.sigma_map.mean(axis=0)[4:-4], rtol=0.03)


def test_the_map_of_a_noisy_picture_counts_stages_by_their_share() -> None:
    spec = NoiseSpec((Gaussian(6.0, 6.0, share=0.5), Gaussian(2.0, 6.0), Demosaic(), Jpeg(50, 50)))
    expected = np.sqrt(0.5 * 36 + 16) / 255
    np.testing.assert_allclose(spec.sigma_map_of(ramp(8)), expected, rtol=1e-6)


# The keys

key_part = st.integers(0, 2**32 - 1)


@unhurried
@given(st.tuples(key_part, key_part, key_part))
def test_draws_are_a_function_of_the_key_alone(key: tuple[int, int, int]) -> None:
    keyed_rng(*key).standard_normal(100)
    np.random.default_rng(0).standard_normal(100)
    first = CHAIN.apply(ramp(8), keyed_rng(*key))
    again = CHAIN.apply(ramp(8), keyed_rng(*key))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@unhurried
@given(st.lists(st.tuples(key_part, key_part, key_part), min_size=2, max_size=20, unique=True))
def test_different_keys_draw_differently(keys: list[tuple[int, int, int]]) -> None:
    assert len({keyed_rng(*key).bytes(16) for key in keys}) == len(keys)


def test_neighbouring_seeds_epochs_and_indices_share_no_noise() -> None:
    base = (3, 5, 7)
    neighbours = [base, (4, 5, 7), (3, 6, 7), (3, 5, 8), (5, 3, 7), (7, 5, 3)]
    noise = np.stack([keyed_rng(*key).standard_normal(40_000) for key in neighbours])
    correlation = np.corrcoef(noise) - np.eye(len(neighbours))
    assert np.abs(correlation).max() < 5 / np.sqrt(40_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((5,), (5, 0)),
        ((5, 1), (5, 1, 0)),
        ((2**32, 7), (0, 1, 7)),
        ((0, 2**32), (0, 0, 1)),
    ],
    ids=str,
)
def test_keys_of_other_length_or_above_32_bits_share_no_draws(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    # (2**32, index) is the key of held-out noise; (0, 1, index) is a training sample of epoch 1 with seed 0.
    assert keyed_rng(*one).bytes(16) != keyed_rng(*other).bytes(16)


# The protocol of the quality tables


@pytest.mark.parametrize("shape", [(31, 17), (31, 17, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize(("sigma", "index"), [(15.0, 0), (25.0, 3), (50.0, 67)])
def test_benchmark_noise_is_the_documented_protocol(shape: tuple[int, ...], sigma: float, index: int) -> None:
    clean = np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)
    noise = np.random.default_rng(1000 + index).standard_normal(shape)
    expected = np.rint(np.clip(clean / 255 + noise * sigma / 255, 0, 1) * 255)
    noisy = benchmark_noisy(clean, sigma=sigma, index=index)
    assert noisy.dtype == np.uint8
    # Association of the factors may tip a value that lies within rounding error of a half.
    assert np.abs(noisy - expected).max() <= 1
    assert np.mean(noisy != expected) < 1e-3


def test_benchmark_noise_is_the_same_with_every_numpy() -> None:
    # Were these values to change, every committed quality figure would describe other noise.
    noisy = benchmark_noisy(np.full((2, 4), 128, dtype=np.uint8), sigma=25.0, index=0)
    np.testing.assert_array_equal(noisy, [[120, 116, 170, 177], [132, 97, 133, 129]])


def test_benchmark_noise_differs_between_images() -> None:
    clean = np.full((16, 16), 128, dtype=np.uint8)
    fields = {benchmark_noisy(clean, sigma=25.0, index=index).tobytes() for index in range(20)}
    assert len(fields) == 20
