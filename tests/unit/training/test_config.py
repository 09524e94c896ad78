"""The configuration: what is read, what is refused, and that a refusal names everything at once."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from denoised.noise import NoiseSpec
from training.config import ConvDaeConfig, RunConfig, load_config
from training.errors import ConfigError

pytestmark = pytest.mark.training

# Background load must not decide whether a test passes.
unhurried = settings(deadline=None, max_examples=60)

TOML = """
name = "tiny-blind"
summary = "smallest network that still denoises"

[network]
kind = "conv_dae"
widths = [16, 32]
encoder_blocks = [1]
middle_blocks = 2
decoder_blocks = [0]

[noise]
grey_share = 0.1

[[noise.stages]]
kind = "gaussian"
sigma_min = 0
sigma_max = 50

[data]
crop_px = 96
batch_size = 16

[optimiser]
steps = 1000
learning_rate = 1.5e-3
"""


def with_network(levels: int) -> dict[str, str]:
    return {
        "network.widths": str([16] * levels),
        "network.encoder_blocks": str([0] * (levels - 1)),
        "network.decoder_blocks": str([0] * (levels - 1)),
    }


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def refusal(path: Path, **overrides: str) -> str:
    """The text of the error; keyword ``network__widths`` overrides ``network.widths``."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, {key.replace("__", "."): text for key, text in overrides.items()})
    return str(caught.value)


def explanation(text: str) -> str:
    """The error without the values it quotes, which name everything anyway."""
    return re.sub(r" \(got .*\)$", "", text, flags=re.MULTILINE)


# Reading


def test_a_file_becomes_a_typed_config(toml: Path) -> None:
    config = load_config(toml)
    assert config.name == "tiny-blind"
    assert config.network == ConvDaeConfig(widths=(16, 32), encoder_blocks=(1,), middle_blocks=2, decoder_blocks=(0,))
    assert config.noise == NoiseSpec.gaussian(0.0, 50.0, grey_share=0.1)
    assert config.data.crop_px == 96
    assert config.optimiser.learning_rate == 1.5e-3
    assert config.loss.image == {"charbonnier": 1.0}


def test_a_config_can_not_be_changed_afterwards(toml: Path) -> None:
    config = load_config(toml)
    with pytest.raises(ValidationError, match="frozen"):
        config.optimiser.steps = 5


# Overrides


@pytest.mark.parametrize(
    ("dotted", "text", "expected"),
    [
        ("optimiser.steps", "500", 500),
        ("optimiser.learning_rate", "3e-4", 3e-4),
        ("optimiser.learning_rate", "1", 1.0),
        ("optimiser.precision", "fp32", "fp32"),
        ("optimiser.precision", '"fp32"', "fp32"),
        ("network.widths", "[32, 48]", (32, 48)),
        ("loss.image", "{ log_mse = 1.0 }", {"log_mse": 1.0}),
        ("summary", "two words, a comma", "two words, a comma"),
        ("seed", "7", 7),
    ],
)
def test_an_override_is_typed_as_toml_or_else_taken_as_text(
    toml: Path, dotted: str, text: str, expected: object
) -> None:
    value: Any = load_config(toml, {dotted: text})
    for part in dotted.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_overrides_of_noise_reach_the_spec(toml: Path) -> None:
    noise = load_config(toml, {"noise.clip": "false", "noise.quantise": "none", "noise.stages.0.sigma_max": "25"}).noise
    assert (noise.clip, noise.quantise, noise.sigma_max) == (False, "none", 25.0)


def test_an_override_leaves_everything_else_as_it_was(toml: Path) -> None:
    plain, changed = load_config(toml), load_config(toml, {"optimiser.steps": "500"})
    assert changed != plain
    assert changed.model_copy(update={"optimiser": plain.optimiser}) == plain


def test_an_override_may_open_a_section_that_the_file_leaves_out(toml: Path) -> None:
    assert load_config(toml, {"loss.sigma_weight": "0.5"}).loss.sigma_weight == 0.5


def test_an_override_below_a_value_is_refused(toml: Path) -> None:
    assert "crop_px is a value, not a section" in refusal(toml, data__crop_px__x="5")


def test_an_override_of_an_unknown_key_is_refused_by_name(toml: Path) -> None:
    assert "optimiser.stepz" in refusal(toml, optimiser__stepz="5")


# Refusals


def test_every_wrong_key_is_named_at_once_with_its_value(toml: Path) -> None:
    text = refusal(
        toml,
        name="Upper",
        seed="-3",
        sead="4",
        network__middle_blocks="-2",
        network__colour="5",
        data__crop_px="3",
        data__batch_size="0",
        data__synthetic_share="1.5",
        optimiser__learning_rate="0",
        optimiser__ema_decay="1",
        optimiser__precision="fp8",
        loss__image="{ huber = 1.0 }",
        noise__stages__0__sigma_max="300",
    )
    wrong = {
        "name": "'Upper'",
        "seed": "-3",
        "sead": "4",
        "network.middle_blocks": "-2",
        "network.colour": "5",
        "data.crop_px": "3",
        "data.batch_size": "0",
        "data.synthetic_share": "1.5",
        "optimiser.learning_rate": "0",
        "optimiser.ema_decay": "1",
        "optimiser.precision": "'fp8'",
        "loss.image.huber": "'huber'",
        "noise": "300",
    }
    lines = dict(line.strip().split(": ", 1) for line in text.splitlines()[1:])
    # The spec of the noise may explain its values itself, below or at its own key.
    lines = {"noise" if key.startswith("noise.") else key: rest for key, rest in lines.items()}
    assert lines.keys() == wrong.keys()
    assert [key for key, value in wrong.items() if value not in lines[key]] == []
    assert str(toml) in text


def test_missing_sections_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("", encoding="utf-8")
    text = refusal(path)
    assert all(f"  {key}: Field required" in text for key in ("name", "network", "noise", "data", "optimiser"))


def test_several_mistakes_within_the_network_are_all_named(toml: Path) -> None:
    text = refusal(toml, network__widths="[20, 32]", network__encoder_blocks="[1, 1]", network__decoder_blocks="[-1]")
    named = [name for name in ("widths", "encoder_blocks", "decoder_blocks") if name in explanation(text)]
    assert named == ["widths", "encoder_blocks", "decoder_blocks"]


def test_several_mistakes_within_the_noise_are_all_named(toml: Path) -> None:
    text = refusal(toml, noise__stages__0__sigma_max="300", noise__stages__0__gain="1", noise__quantise="u9")
    assert [word for word in ("300", "gain", "u9") if word in explanation(text)] == ["300", "gain", "u9"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"network__widths": "[16]"}, "widths has 1 entries"),
        ({"network__widths": "[]"}, "widths has 0 entries"),
        ({"network__encoder_blocks": "[1, 1]"}, "encoder_blocks"),
        ({"network__decoder_blocks": "[]"}, "decoder_blocks"),
        ({"network__decoder_blocks": "[-1]"}, "decoder_blocks"),
        ({"network__widths": "[16, 24]"}, "multiple of 16"),
        ({"network__widths": "[0, 16]"}, "widths"),
        ({"network__channels": "2"}, "network.channels"),
        ({"network__estimator_width": "24"}, "network.estimator_width"),
        ({"noise__stages__0__kind": "poisson"}, "poisson"),
        ({"noise__clip": "false"}, "clip"),
        ({"optimiser__learning_rate": "nan"}, "optimiser.learning_rate"),
        ({"name": "with space"}, "name"),
        ({"name": "25"}, "name"),
    ],
)
def test_a_wrong_value_is_refused_by_name(toml: Path, overrides: dict[str, str], named: str) -> None:
    assert named in explanation(refusal(toml, **overrides))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.toml") in refusal(tmp_path / "none.toml")


def test_text_that_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = "x"\n[network\n', encoding="utf-8")
    assert "line 2" in refusal(path)


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin1.toml"
    path.write_bytes(TOML.encode() + b"# caf\xe9\n")
    assert str(path) in refusal(path)


def test_a_toml_date_within_the_noise_is_refused(toml: Path) -> None:
    assert "noise" in refusal(toml, noise__stages__0__sigma_min="2020-01-01")


def test_an_infinite_number_is_refused_because_json_can_not_keep_it(toml: Path) -> None:
    assert "optimiser.learning_rate" in refusal(toml, optimiser__learning_rate="inf")


def test_a_seed_that_torch_can_not_take_is_refused(toml: Path) -> None:
    assert "seed" in refusal(toml, seed=str(2**64))


def test_a_truth_value_is_not_taken_for_a_number(toml: Path) -> None:
    # It would be a run of one step.
    assert "optimiser.steps" in refusal(toml, optimiser__steps="true")


def test_a_crop_that_the_network_can_not_halve_that_often_is_refused(toml: Path) -> None:
    overrides = with_network(levels=5)
    assert load_config(toml, {**overrides, "data.crop_px": "64"}).data.crop_px == 64
    with pytest.raises(ConfigError, match=r"crop_px.*32"):
        load_config(toml, {**overrides, "data.crop_px": "48"})


# Saving


@unhurried
@given(
    learning_rate=st.floats(1e-6, 1.0),
    sigmas=st.tuples(st.floats(0, 255), st.floats(0, 255)).map(sorted),
    seed=st.integers(0, 2**32 - 1),
    summary=st.text(max_size=20),
    blocks=st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
def test_a_config_survives_json(
    learning_rate: float, sigmas: list[float], seed: int, summary: str, blocks: list[int]
) -> None:
    config = RunConfig.model_validate(
        {
            "name": "x",
            "summary": summary,
            "seed": seed,
            "network": {
                "kind": "conv_dae",
                "widths": [16] * (len(blocks) + 1),
                "encoder_blocks": blocks,
                "middle_blocks": 1,
                "decoder_blocks": blocks[::-1],
            },
            "noise": {"stages": [{"kind": "gaussian", "sigma_min": sigmas[0], "sigma_max": sigmas[1]}]},
            "data": {"crop_px": 64, "batch_size": 4},
            "optimiser": {"steps": 10, "learning_rate": learning_rate},
        }
    )
    again = RunConfig.from_json(config.to_json())
    assert again == config
    assert again.to_json() == config.to_json()
    assert again.noise.digest() == config.noise.digest()


def test_the_saved_text_spells_out_the_defaults(toml: Path) -> None:
    saved = json.loads(load_config(toml).to_json())
    assert saved["noise"]["quantise"] == "u8"
    assert saved["optimiser"]["precision"] == "bf16"
    assert saved["loss"]["image"] == {"charbonnier": 1.0}
    assert saved["loss"]["kl_cycles"] == 4


def test_saved_text_with_a_wrong_value_is_refused(toml: Path) -> None:
    tree = json.loads(load_config(toml).to_json())
    tree["optimiser"]["steps"] = 0
    with pytest.raises(ValueError, match=r"optimiser\.steps"):
        RunConfig.from_json(json.dumps(tree))


# Networks and losses that belong together

CODE = {"network": '{ kind = "conv_ae", side_px = 32, code_length = 8, widths = [16, 32] }', "data__crop_px": "32"}
VAE = {**CODE, "network__kind": "vae", "loss__objective": "energy", "loss__image": "{ mse = 1.0 }"}
PCA = {"network": '{ kind = "pca", side_px = 32, code_length = 8 }', "data__crop_px": "32"}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"loss__objective": "energy", "loss__image": "{ mse = 1.0 }"}, "the skips go round it"),
        ({**VAE, "loss__objective": "loss"}, "minimises its energy"),
        ({**VAE, "loss__code_penalty": "0.1"}, "loss.kl_weight"),
        ({**VAE, "loss__image": "{ mae = 1.0 }"}, "nothing else has nats"),
        ({**VAE, "loss__image": "{ mse = 0.5 }"}, "nothing else has nats"),
        ({**CODE, "loss__code_penalty": "0.1"}, "part of the energy"),
        ({**CODE, "loss__image": "{ bce = 1.0 }"}, "network.output = 'sigmoid'"),
        ({**CODE, "network__output": "sigmoid"}, "add bce"),
        ({"loss__image": "{ bce = 1.0 }"}, "choose another term"),
        ({**PCA, "loss__image": "{ bce = 1.0 }"}, "choose another term"),
        ({"loss__image": "{ ms_ssim = 1.0 }"}, "at least 176"),
        ({**CODE, "loss__image": "{ ssim = 1.0 }", "network__side_px": "8", "data__crop_px": "8"}, "at least 11"),
        ({**VAE, "loss__kl_schedule": "linear"}, "at least 1 step"),
        ({**VAE, "loss__kl_warmup_steps": "10"}, "constant takes 0"),
        ({"loss__image": "{}"}, "loss.image"),
        ({"loss__image": "{ mse = 0.0 }"}, "loss.image.mse"),
        ({**CODE, "network__code_length": "1024"}, "1024 values"),
        ({**CODE, "network__side_px": "30"}, "multiple of 4"),
        ({**CODE, "network__widths": "[16, 0]"}, "at least 1 channel"),
        ({**CODE, "data__crop_px": "64"}, "takes 32 alone"),
        ({**PCA, "network__channels": "3", "network__side_px": "64", "data__crop_px": "64"}, "up to 4096"),
        ({**PCA, "network__kind": "fc_ae", "network__hidden": "[0]"}, "at least 1 unit"),
        ({**CODE, "data__supervision": "noisy"}, "half the size"),
        ({"data__supervision": "noisy", "loss__image": "{ charbonnier = 1.0 }"}, "squares errors"),
        ({"data__supervision": "noisy", "loss__image": "{ mse = 0.5 }"}, "squares errors"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_remedy(
    toml: Path, overrides: dict[str, str], named: str
) -> None:
    assert named in explanation(refusal(toml, **overrides))


@pytest.mark.parametrize("loss", [{}, {"loss.sigma_weight": "0.5"}, {"loss.image": "{ mse = 1.0 }"}])
def test_learning_from_noisy_images_alone_squares_errors_and_the_config_says_so(
    toml: Path, loss: dict[str, str]
) -> None:
    config = load_config(toml, {"data.supervision": "noisy", **loss})
    assert config.loss.image == {"mse": 1.0}
    assert RunConfig.from_json(config.to_json()) == config


def test_the_image_term_is_the_likelihood_of_the_energy(toml: Path) -> None:
    overrides = {key.replace("__", "."): text for key, text in VAE.items()}
    assert load_config(toml, overrides).loss.likelihood == "gaussian"
    overrides |= {"loss.image": "{ bce = 1.0 }", "network.output": "sigmoid"}
    assert load_config(toml, overrides).loss.likelihood == "bernoulli"


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[3] / "training" / "configs").glob("*.toml")),
    ids=lambda path: path.stem,
)
def test_every_config_of_the_repository_is_one(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_photographs_noise_can_start_from_gaussian_noise_in_the_same_network() -> None:
    configs = Path(__file__).parents[3] / "training" / "configs"
    assert load_config(configs / "photo-base.toml").network == load_config(configs / "gaussian-base.toml").network


@pytest.mark.parametrize("name", ["digits-conv-ae", "digits-fc-ae", "digits-dae", "digits-vae", "digits-pca"])
def test_the_configs_for_digits_take_those_of_8_pixels_too(name: str) -> None:
    path = Path(__file__).parents[3] / "training" / "configs" / f"{name}.toml"
    small = {"network.side_px": "8", "data.crop_px": "8", "network.code_length": "8"}
    network = load_config(path, small).network
    assert (network.fixed_side_px, network.code_length) == (8, 8)


def test_the_panel_of_the_code_plane_is_three_settings_of_one_config() -> None:
    path = Path(__file__).parents[3] / "training" / "configs" / "digits-vae-2d.toml"
    reconstruction = {"loss.kl_weight": "0", "loss.kl_schedule": "constant", "loss.kl_warmup_steps": "0"}
    assert load_config(path, reconstruction).loss.kl_weight == 0
    assert load_config(path, {"loss.reconstruction_weight": "0"}).loss.reconstruction_weight == 0
    assert load_config(path).network.code_length == 2
