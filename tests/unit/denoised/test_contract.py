"""The model file's description: what is written can be read, and whatever is wrong with it is refused by name."""

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoised.calibration import Calibration
from denoised.contract import (
    FILE_DIGEST_KEY,
    PREFIX,
    SCHEMA_VERSION,
    ContractError,
    GoldenPair,
    ModelContract,
    Parity,
    SampleLevels,
    TilingError,
)
from denoised.noise import NoiseSpec

PICTURE = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
RIGHT = ModelContract(
    name="gaussian-base",
    version="12",
    kind="conv_dae",
    capabilities=("denoise",),
    precision="fp32",
    summary="Colour photographs, “noisy” ones.",
    channels=3,
    noise=NoiseSpec.gaussian(0.0, 55.0, grey_share=0.2),
    levels=SampleLevels(sample_type="u16", black=64.0, white=4095.0),
    size_multiple_px=4,
    fixed_side_px=0,
    unit_edges_px=(16, 32, 40),
    halo_px=8,
    receptive_field_px=61,
    sigma_map_scale_px=4,
    code_length=0,
    gmac_per_megapixel=21.88,
    parity=Parity(max_abs_difference=7.7e-7, psnr_db=138.4),
    tiling=TilingError(max_levels=1, differing_share=0.0008),
    quality_db={"faces": {"15": 33.25, "25": 30.5}, "empty": {}},
    calibration=Calibration(
        probabilities=(0.05, 0.5, 0.95),
        sigmas=(10.0, 40.0),
        quantiles={"removed_share": ((0.0, 0.1, 0.2), (0.2, 0.4, 0.7))},
    ),
    training_data_digest="7b49",
    run_config_digest="01f2",
    license="Apache-2.0",
    golden=GoldenPair.of(PICTURE, 255 - PICTURE),
)


SQUARE = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8, 1)
LATENT = replace(
    RIGHT,
    kind="vae",
    capabilities=("denoise", "encode", "decode", "generate"),
    channels=1,
    size_multiple_px=8,
    fixed_side_px=8,
    unit_edges_px=(8,),
    halo_px=0,
    receptive_field_px=0,
    sigma_map_scale_px=0,
    code_length=2,
    calibration=Calibration(),
    golden=GoldenPair.of(SQUARE, SQUARE),
)


def metadata(**changed: Any) -> dict[str, str]:
    """What is in the file, with the JSON of some keys replaced."""
    return RIGHT.to_metadata() | {PREFIX + key: json.dumps(value) for key, value in changed.items()}


def part(key: str, **changed: Any) -> dict[str, Any]:
    """The object under a key, with some of its values replaced; None takes one out."""
    value = json.loads(RIGHT.to_metadata()[PREFIX + key]) | changed
    return {name: each for name, each in value.items() if each is not None}


# --- round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [RIGHT, LATENT], ids=["any size", "one size"])
def test_what_was_written_is_read_back(contract: ModelContract) -> None:
    assert ModelContract.from_metadata(contract.to_metadata()) == contract


def test_the_seal_beside_the_contract_is_no_part_of_it() -> None:
    assert ModelContract.from_metadata(RIGHT.to_metadata() | {FILE_DIGEST_KEY: "0" * 64}) == RIGHT


@settings(deadline=None)
@given(
    name=st.text(min_size=1),
    summary=st.text(),
    version=st.integers(0, 10**9),
    multiple_px=st.sampled_from([1, 2, 4, 8]),
    edges=st.sets(st.integers(2, 60), min_size=1),
    gmac=st.floats(0, 1e6),
    quality_db=st.dictionaries(st.text(), st.dictionaries(st.text(), st.floats(0, 200))),
)
def test_any_right_contract_survives_the_file(
    name: str,
    summary: str,
    version: int,
    multiple_px: int,
    edges: set[int],
    gmac: float,
    quality_db: dict[str, dict[str, float]],
) -> None:
    contract = replace(
        RIGHT,
        name=name,
        summary=summary,
        version=str(version),
        size_multiple_px=multiple_px,
        sigma_map_scale_px=multiple_px,
        unit_edges_px=tuple(sorted(edge * multiple_px for edge in edges)),
        halo_px=(max(edges) - 1) // 2 * multiple_px,
        gmac_per_megapixel=gmac,
        quality_db=quality_db,
        golden=GoldenPair.of(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)),
    )
    assert ModelContract.from_metadata(contract.to_metadata()) == contract


def test_every_key_has_the_prefix_and_every_value_is_text() -> None:
    written = RIGHT.to_metadata()
    assert set(written) == {PREFIX + field.name for field in fields(ModelContract)} | {PREFIX + "schema_version"}
    assert all(isinstance(value, str) for value in written.values())


def test_the_same_contract_always_gives_the_same_text() -> None:
    swapped = replace(RIGHT, quality_db={"empty": {}, "faces": {"25": 30.5, "15": 33.25}})
    assert swapped.to_metadata() == RIGHT.to_metadata()


def test_what_other_tools_wrote_into_the_file_is_ignored() -> None:
    others = {"producer": "torch", "schema_version": "7", "somebody.name": "not json"}
    assert ModelContract.from_metadata(RIGHT.to_metadata() | others) == RIGHT


def test_golden_pictures_come_back_bit_for_bit() -> None:
    np.testing.assert_array_equal(RIGHT.golden.noisy(), PICTURE)
    np.testing.assert_array_equal(RIGHT.golden.denoised(), 255 - PICTURE)


def test_golden_pictures_need_not_lie_in_order_in_memory() -> None:
    transposed = PICTURE.transpose(1, 0, 2)
    np.testing.assert_array_equal(GoldenPair.of(transposed, transposed).noisy(), transposed)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [{}, {"name": '"x"'}, {PREFIX + "name": '"x"'}], ids=["empty", "foreign", "partial"])
def test_a_file_without_a_contract_is_refused_with_the_remedy(found: dict[str, str]) -> None:
    with pytest.raises(ContractError, match="carries no model contract; export it with: python -m training export"):
        ModelContract.from_metadata(found)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_schema_version_is_refused_with_both_versions(version: object) -> None:
    with pytest.raises(ContractError, match=f"has schema version {version}; this release reads {SCHEMA_VERSION}"):
        ModelContract.from_metadata(metadata(schema_version=version))


@pytest.mark.parametrize("key", [field.name for field in fields(ModelContract)])
def test_a_missing_key_is_refused_by_its_name(key: str) -> None:
    written = RIGHT.to_metadata()
    del written[PREFIX + key]
    with pytest.raises(ContractError, match=key):
        ModelContract.from_metadata(written)


def test_an_unknown_key_is_refused_by_its_name() -> None:
    with pytest.raises(ContractError, match=r"unknown keys.*sharpness"):
        ModelContract.from_metadata(metadata(sharpness=3))


@pytest.mark.parametrize("key", ["name", "halo_px", "golden"])
def test_a_value_that_is_no_json_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(ContractError, match=key):
        ModelContract.from_metadata(RIGHT.to_metadata() | {PREFIX + key: "{damaged"})


@pytest.mark.parametrize("key", [field.name for field in fields(ModelContract)])
def test_a_value_of_a_wrong_type_is_refused_by_its_name(key: str) -> None:
    right_type = type(json.loads(RIGHT.to_metadata()[PREFIX + key]))
    for value in (None, "text", 7, 1.5, True, [None], {"a": 1}):
        if type(value) is not right_type and (right_type, type(value)) != (float, int):
            with pytest.raises(ContractError, match=f"(?i){key}"):
                ModelContract.from_metadata(metadata(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "transformer"),
        ("capabilities", []),
        ("capabilities", ["sharpen"]),
        ("capabilities", ["denoise", "encode"]),
        ("capabilities", ["decode"]),
        ("capabilities", ["denoise", "generate"]),
        ("precision", "fp16"),
        ("code_length", -1),
        ("code_length", 16),
        ("receptive_field_px", -1),
        ("fixed_side_px", 32),
        ("fixed_side_px", -32),
        ("channels", 2),
        ("channels", 4),
        ("version", ""),
        ("version", "1.0"),
        ("version", "-1"),
        ("version", "v1"),
        ("version", "²"),
        ("size_multiple_px", 0),
        ("size_multiple_px", -4),
        ("unit_edges_px", []),
        ("unit_edges_px", [32, 16]),
        ("unit_edges_px", [16, 16, 32]),
        ("unit_edges_px", [16, 30]),
        ("unit_edges_px", [0, 32]),
        ("unit_edges_px", [-16, 32]),
        ("unit_edges_px", [16.5, 32]),
        ("halo_px", -4),
        ("halo_px", 6),
        ("halo_px", 20),
        ("halo_px", "8"),
        ("sigma_map_scale_px", -4),
        ("sigma_map_scale_px", 3),
        ("noise", part("noise", stages=[{"kind": "salt"}])),
        ("noise", part("noise", stages=[{"kind": "gaussian", "sigma_min": 60.0, "sigma_max": 55.0}])),
        ("noise", part("noise", stages=[{"kind": "gaussian", "sigma_min": 60.0}])),
        ("noise", part("noise", colour="pink")),
        ("levels", part("levels", white=64.0)),
        ("levels", part("levels", black=5000.0)),
        ("levels", part("levels", white=float("nan"))),
        ("levels", part("levels", white=float("inf"))),
        ("levels", part("levels", sample_type="u12")),
        ("calibration", part("calibration", quantiles={"tail": [0.1]})),
        ("calibration", part("calibration", sigmas=["low"])),
        ("parity", part("parity", psnr_db=None)),
        ("parity", part("parity", more=1)),
        ("parity", part("parity", psnr_db="high")),
        ("tiling", part("tiling", max_levels=None)),
        ("quality_db", {"faces": {"25": "good"}}),
        ("quality_db", {"faces": 30.5}),
        ("golden", part("golden", channels=1)),
        ("golden", part("golden", height_px=5)),
        ("golden", part("golden", noisy_base64="####")),
        ("golden", part("golden", denoised_base64="AAAA")),
        ("golden", part("golden", denoised_base64=None)),
        ("golden", part("golden", height_px=2, width_px=16)),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_value_out_of_its_range_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ContractError, match=f"(?i){key}"):
        ModelContract.from_metadata(metadata(**{key: value}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code_length": 0}, "code_length is 0; conv_ae, fc_ae, vae, pca have a code"),
        ({"kind": "pca"}, "only vae generates"),
        ({"halo_px": 8}, "fixed_side_px is 8; it is the only unit edge"),
        ({"unit_edges_px": (8, 16)}, "fixed_side_px is 8; it is the only unit edge"),
        ({"golden": GoldenPair.of(np.zeros((16, 16, 1), np.uint8), np.zeros((16, 16, 1), np.uint8))}, "golden pair"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_contract_of_a_network_with_a_code_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        replace(LATENT, **changes)


def test_a_multiple_that_edges_halo_and_sigma_map_do_not_keep_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"halo_px 8 must be multiples of 3; sigma_map_scale_px is 4; must divide 3"
    ):
        ModelContract.from_metadata(metadata(size_multiple_px=3))


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(ContractError) as raised:
        ModelContract.from_metadata(metadata(channels=2, version="new", halo_px=6))
    assert all(key in str(raised.value) for key in ("channels is 2", "version is 'new'", "halo_px 6"))


def test_a_contract_cannot_be_made_wrong_in_memory_either() -> None:
    with pytest.raises(ContractError, match="channels is 7"):
        replace(RIGHT, channels=7)
