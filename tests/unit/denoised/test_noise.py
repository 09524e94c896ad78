"""NoiseSpec as data, the noise it makes, and the keys that the draws belong to."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoised.noise import NoiseSpec, benchmark_noisy, keyed_rng

# Background load must not decide whether a test passes.
unhurried = settings(deadline=None, max_examples=60)

PLAIN = NoiseSpec(kind="gaussian", sigma_min=0.0, sigma_max=50.0)
RAW = NoiseSpec(kind="gaussian", sigma_min=0.0, sigma_max=255.0, clip=False, quantise="none")
VALID: Mapping[str, object] = {"kind": "gaussian", "sigma_min": 0.0, "sigma_max": 50.0}

GRID_STEPS = {"u8": 255, "u16": 65535}


@st.composite
def specs(draw: st.DrawFn) -> NoiseSpec:
    low, high = sorted(draw(st.tuples(st.floats(0, 255), st.floats(0, 255))))
    clip = draw(st.booleans())
    return NoiseSpec(
        kind="gaussian",
        sigma_min=low,
        sigma_max=high,
        clip=clip,
        quantise=draw(st.sampled_from(["none", "u8", "u16"])) if clip else "none",
        grey_share=draw(st.floats(0, 1)),
        clean_share=draw(st.floats(0, 1)),
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
        '{"clean_share":0.0,"clip":true,"grey_share":0.0,"kind":"gaussian","quantise":"u8",'
        '"sigma_max":50.0,"sigma_min":0.0}'
    )
    assert PLAIN.to_json() == text
    assert PLAIN.digest() == hashlib.sha256(text.encode("ascii")).hexdigest()
    assert PLAIN.digest() == "2c7bc2e5c962b39ee85f1eaa93106ed576856d0cd0f6c442dfe6d41717a00c77"


def test_defaults_may_be_left_out_and_key_order_does_not_matter() -> None:
    text = json.dumps({key: VALID[key] for key in sorted(VALID, reverse=True)})
    assert NoiseSpec.from_json(text) == PLAIN


@unhurried
@given(specs(), specs())
def test_digests_are_equal_exactly_when_specs_are(one: NoiseSpec, other: NoiseSpec) -> None:
    assert (one.digest() == other.digest()) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NoiseSpec("gaussian", 5, 50), NoiseSpec("gaussian", 5.0, 50.0)),
        (NoiseSpec("gaussian", -0.0, 50.0), NoiseSpec("gaussian", 0.0, 50.0)),
        (NoiseSpec("gaussian", 0.0, 50.0, grey_share=1), NoiseSpec("gaussian", 0.0, 50.0, grey_share=1.0)),
    ],
    ids=["integer sigma", "negative zero", "integer share"],
)
def test_equal_specs_have_equal_digests_however_the_numbers_were_written(one: NoiseSpec, other: NoiseSpec) -> None:
    assert one == other
    assert one.digest() == other.digest()


def test_unknown_keys_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown keys.*colour, gain"):
        NoiseSpec.from_json(json.dumps({**VALID, "gain": 2, "colour": "blue"}))


@pytest.mark.parametrize("missing", sorted(VALID))
def test_missing_keys_are_refused_by_name(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        NoiseSpec.from_json(json.dumps({key: value for key, value in VALID.items() if key != missing}))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '"gaussian"'])
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|Expecting"):
        NoiseSpec.from_json(text)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "poisson"}, "poisson.*gaussian"),
        ({"sigma_min": -0.001}, r"-0\.001"),
        ({"sigma_min": 50.5}, r"50\.5\.\.50\.0"),
        ({"sigma_max": 255.5}, r"255\.5"),
        ({"sigma_min": float("nan")}, "nan"),
        ({"sigma_max": float("nan")}, "nan"),
        ({"sigma_max": float("inf")}, "inf"),
        ({"quantise": "u9"}, "u9.*none, u8, u16"),
        ({"quantise": "u8", "clip": False}, "clip"),
        ({"quantise": "u16", "clip": False}, "clip"),
        ({"grey_share": -0.1}, r"-0\.1"),
        ({"grey_share": 1.1}, r"1\.1"),
        ({"grey_share": float("nan")}, "nan"),
        ({"clean_share": -0.1}, r"clean_share is -0\.1"),
        ({"clean_share": 1.1}, r"clean_share is 1\.1"),
    ],
)
def test_values_out_of_range_are_refused_and_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        NoiseSpec.from_json(json.dumps({**VALID, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": "false"},
        {"clip": None, "quantise": "none"},
        {"clip": 1},
        {"sigma_min": True},
        {"sigma_min": "0"},
        {"sigma_max": None},
        {"grey_share": "0.5"},
        {"grey_share": False},
        {"clean_share": "0"},
    ],
    ids=str,
)
def test_values_of_another_type_are_refused_when_a_spec_is_read(changes: dict[str, object]) -> None:
    # "false" is true in Python: a spec that was meant not to clip would clip.
    with pytest.raises(ValueError, match=next(iter(changes))):
        NoiseSpec.from_json(json.dumps({**VALID, **changes}))


@unhurried
@given(specs(), st.floats(0, 255), st.integers(0, 2**32 - 1))
def test_a_fixed_level_is_always_drawn_and_keeps_the_rest_of_the_policy(
    spec: NoiseSpec, sigma: float, seed: int
) -> None:
    fixed = spec.at(sigma)
    assert fixed.draw_sigma(keyed_rng(seed)) == sigma
    kept = ("kind", "clip", "quantise", "grey_share")
    assert [getattr(fixed, name) for name in kept] == [getattr(spec, name) for name in kept]


# The drawn level


@unhurried
@given(specs(), st.integers(0, 2**32 - 1))
def test_a_drawn_level_lies_in_the_range_or_is_none_at_all(spec: NoiseSpec, seed: int) -> None:
    sigma = spec.draw_sigma(keyed_rng(seed))
    assert spec.sigma_min <= sigma <= spec.sigma_max or (sigma == 0 and spec.clean_share > 0)


def test_drawn_levels_fill_the_range_evenly() -> None:
    spec = NoiseSpec(kind="gaussian", sigma_min=10.0, sigma_max=50.0)
    levels = [spec.draw_sigma(keyed_rng(0, 0, index)) for index in range(2000)]
    counts, _ = np.histogram(levels, bins=10, range=(10.0, 50.0))
    # Chi-square with 9 degrees of freedom: 33.7 is its 99.99 % quantile.
    assert np.sum((counts - 200.0) ** 2 / 200.0) < 33.7


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_clean_share_of_images_gets_no_noise(share: float) -> None:
    spec = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=50.0, clean_share=share)
    clean_count = sum(spec.draw_sigma(keyed_rng(0, 0, index)) == 0 for index in range(2000))
    # Five standard errors of a count.
    assert clean_count == pytest.approx(2000 * share, abs=5 * np.sqrt(2000 * share * (1 - share)))


def test_a_clean_share_changes_no_level_of_the_other_images() -> None:
    mixed = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=50.0, clean_share=0.3)
    always = NoiseSpec(kind="gaussian", sigma_min=5.0, sigma_max=50.0)
    pairs = [(mixed.draw_sigma(keyed_rng(index)), always.draw_sigma(keyed_rng(index))) for index in range(100)]
    assert {drawn for drawn, level in pairs if drawn != level} == {0.0}


# The noise


@pytest.mark.parametrize("sigma", [1.0, 15.0, 25.0, 50.0, 255.0])
def test_noise_has_the_stated_deviation_and_no_mean(sigma: float) -> None:
    # Three million values: enough to tell 255 levels from 256.
    clean = grey(0.5, side_px=1024)
    noise = (RAW.apply(clean, sigma=sigma, rng=keyed_rng(1, 2, 3)).astype(np.float64) - clean) * 255
    # Five standard errors of the deviation and of the mean of `noise.size` normal values.
    assert abs(noise.std() / sigma - 1) < 5 / np.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(noise.size)


def test_noise_is_normal_white_and_independent_between_channels() -> None:
    noise = RAW.apply(grey(0.5), sigma=25.0, rng=keyed_rng(4)).astype(np.float64) - 0.5
    noise = noise / noise.std()
    five_errors = 5 / np.sqrt(noise.size)
    assert abs(np.mean(noise**3)) < five_errors * np.sqrt(15)
    assert abs(np.mean(noise**4) - 3) < five_errors * np.sqrt(96)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 1.1 * five_errors
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 1.1 * five_errors
    assert abs(np.mean(noise[..., 0] * noise[..., 1])) < five_errors * np.sqrt(3)
    assert abs(np.mean(noise[..., 1] * noise[..., 2])) < five_errors * np.sqrt(3)


@unhurried
@given(specs(), st.floats(0, 255), st.integers(0, 1000))
def test_clipping_and_rounding_are_exact(spec: NoiseSpec, sigma: float, index: int) -> None:
    clean = ramp(16)
    expected: NDArray[np.floating] = RAW.apply(clean, sigma=sigma, rng=keyed_rng(index))
    if spec.clip:
        expected = np.minimum(np.maximum(expected, np.float32(0)), np.float32(1))
    if spec.quantise != "none":
        steps = np.float32(GRID_STEPS[spec.quantise])
        expected = np.round(expected * steps) / steps
    noisy = spec.apply(clean, sigma=sigma, rng=keyed_rng(index))
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(noisy, expected)


@pytest.mark.parametrize(("quantise", "integer"), [("u8", np.uint8), ("u16", np.uint16)])
def test_quantised_values_are_exactly_those_of_an_integer_image(
    quantise: str, integer: type[np.unsignedinteger]
) -> None:
    spec = NoiseSpec.from_json(json.dumps({**VALID, "quantise": quantise}))
    steps = GRID_STEPS[quantise]
    noisy = spec.apply(ramp(), sigma=50.0, rng=keyed_rng(5))
    stored = np.rint(noisy.astype(np.float64) * steps).astype(integer)
    # What a decoder makes of the stored integers is bit for bit what the network saw in training.
    np.testing.assert_array_equal(stored.astype(np.float32) / np.float32(steps), noisy)
    assert noisy.min() == 0.0
    assert noisy.max() == 1.0
    assert len(np.unique(stored)) > min(steps, 5000) * 0.9


def test_noise_of_level_zero_returns_an_eight_bit_image_unchanged() -> None:
    clean = ramp()
    np.testing.assert_array_equal(PLAIN.apply(clean, sigma=0.0, rng=keyed_rng(6)), clean)


def test_the_clean_image_is_not_written_to() -> None:
    clean = ramp()
    clean.flags.writeable = False
    noisy = PLAIN.apply(clean, sigma=25.0, rng=keyed_rng(7))
    assert not np.shares_memory(noisy, clean)


@pytest.mark.parametrize("spec", [PLAIN, RAW], ids=["clipped", "raw"])
def test_a_grey_image_stays_grey_under_the_same_noise_in_all_channels(spec: NoiseSpec) -> None:
    clean = np.repeat(ramp()[:, :, :1], 3, axis=2)
    noisy = spec.apply(clean, sigma=25.0, rng=keyed_rng(8), same_in_all_channels=True)
    assert noisy.shape == clean.shape
    np.testing.assert_array_equal(noisy, np.repeat(noisy[:, :, :1], 3, axis=2))
    assert not np.array_equal(noisy, clean)


def test_the_same_noise_in_all_channels_is_one_field_on_a_colour_image() -> None:
    clean = grey(0.0) + np.array([0.2, 0.5, 0.7], dtype=np.float32)
    noise = RAW.apply(clean, sigma=25.0, rng=keyed_rng(9), same_in_all_channels=True) - clean
    np.testing.assert_allclose(noise[..., 1], noise[..., 0], atol=2e-7)
    np.testing.assert_allclose(noise[..., 2], noise[..., 0], atol=2e-7)
    assert abs(noise.std() * 255 / 25 - 1) < 5 / np.sqrt(2 * noise[..., 0].size)


def test_channels_differ_unless_the_same_noise_is_asked_for() -> None:
    noisy = PLAIN.apply(grey(0.5, 32), sigma=25.0, rng=keyed_rng(10))
    assert not np.array_equal(noisy[..., 0], noisy[..., 1])


# The keys

key_part = st.integers(0, 2**32 - 1)


@unhurried
@given(st.tuples(key_part, key_part, key_part))
def test_draws_are_a_function_of_the_key_alone(key: tuple[int, int, int]) -> None:
    keyed_rng(*key).standard_normal(100)
    np.random.default_rng(0).standard_normal(100)
    first = PLAIN.apply(ramp(8), sigma=25.0, rng=keyed_rng(*key))
    np.testing.assert_array_equal(first, PLAIN.apply(ramp(8), sigma=25.0, rng=keyed_rng(*key)))


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
