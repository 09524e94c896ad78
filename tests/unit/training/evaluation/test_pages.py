"""Pages of runs, evaluations, comparisons and planes: whole, self-contained, with what the run directory holds."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from denoised.contract import SampleLevels
from denoised.noise import NoiseSpec
from training.errors import DataError

torch = pytest.importorskip("torch")
pytest.importorskip("jinja2")

from training.config import (  # noqa: E402 -- after importorskip
    ConvDaeConfig,
    DataConfig,
    FcAeConfig,
    OptimiserConfig,
    RunConfig,
    VaeConfig,
)
from training.evaluation.compare import (  # noqa: E402
    comparable_sets,
    config_differences,
    crop_sheet,
    run_names,
    write_comparison,
)
from training.evaluation.conditions import GaussianNoise  # noqa: E402
from training.evaluation.grids import to_png  # noqa: E402
from training.evaluation.inference import encode_all  # noqa: E402
from training.evaluation.latent import plane_points  # noqa: E402
from training.evaluation.panel import write_panel  # noqa: E402
from training.evaluation.report import write_evaluation_report, write_run_report  # noqa: E402
from training.evaluation.scores import Evaluation, PlanePoint  # noqa: E402
from training.evaluation.session import estimate_run, evaluate_run  # noqa: E402
from training.evaluation.store import load_estimates, load_evaluations, save_evaluation  # noqa: E402
from training.evaluation.subjects import Folder  # noqa: E402
from training.evaluation.views import sheet_uri  # noqa: E402
from training.networks import build_network  # noqa: E402
from training.networks.base import LatentNetwork  # noqa: E402
from training.run.directory import RunDir  # noqa: E402
from training.run.trained import Trained  # noqa: E402

pytestmark = pytest.mark.training


class Reader(HTMLParser):
    """Collects text and addresses, and fails on tags that do not close in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", text)
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert all(re.match("data:image/(png|jpeg);base64,", address) for address in reader.addresses)
    return reader


def conv_dae(name: str = "tiny", *, steps: int = 10) -> RunConfig:
    return RunConfig(
        name=name,
        summary="A <tiny> run & more",
        network=ConvDaeConfig(
            channels=1, widths=(16, 16), encoder_blocks=(0,), middle_blocks=0, decoder_blocks=(0,), estimator_width=16
        ),
        noise=NoiseSpec.gaussian(0, 55),
        data=DataConfig(crop_px=16, batch_size=2),
        optimiser=OptimiserConfig(steps=steps, learning_rate=1e-3),
    )


def latent(kind: str, code_length: int = 2) -> RunConfig:
    network = (
        VaeConfig(kind="vae", side_px=8, code_length=code_length, widths=(4,), output="sigmoid")
        if kind == "vae"
        else FcAeConfig(kind="fc_ae", side_px=8, code_length=code_length, hidden=(16,))
    )
    loss = {"objective": "energy", "image": {"bce": 1.0}} if kind == "vae" else {}
    return RunConfig.model_validate(
        conv_dae(kind.replace("_", "-")).model_dump(exclude={"network", "loss", "data"})
        | {"network": network, "loss": loss, "data": DataConfig(crop_px=8, batch_size=2)}
    )


def made(tmp_path: Path, config: RunConfig) -> tuple[RunDir, Trained]:
    run_dir = RunDir(tmp_path / config.name)
    run_dir.create(config)
    log = [
        {"step": step, "loss": 1 / step, "held_out_loss": 1.1 / step, "held_out_psnr_db": 20.0 + step}
        for step in range(1, 11)
    ]
    run_dir.log_path.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")
    torch.manual_seed(0)
    network = build_network(config.network).eval()
    return run_dir, Trained(
        config=config, network=network, step=10, weights="last", pack_digest="d" * 64, levels=SampleLevels()
    )


def image_folder(root: Path, *, count: int = 6, side_px: int = 24, labels: int = 1) -> Path:
    for number in range(count):
        folder = root / "val" / str(number % labels) if labels > 1 else root / "val"
        folder.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).integers(0, 256, (side_px, side_px), dtype=np.uint8)
        PillowImage.fromarray(samples).save(folder / f"{number}.png")
    return root / "val"


def images(folder: Path, side_px: int | None = None) -> Folder:
    return Folder(folder, channels=1, levels=SampleLevels(), side_px=side_px)


def evaluated(tmp_path: Path, config: RunConfig) -> tuple[RunDir, Evaluation]:
    run_dir, trained = made(tmp_path, config)
    folder = image_folder(tmp_path, labels=2, count=12)
    subjects = images(folder, config.network.fixed_side_px)
    return run_dir, evaluate_run(run_dir, trained, subjects, GaussianNoise((15.0, 25.0)), baselines={})


def test_an_evaluation_leaves_scores_pictures_and_a_whole_page(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    assert load_evaluations(run_dir) == [evaluation]
    page = read(write_evaluation_report(run_dir, evaluation))
    assert "A <tiny> run & more" in page.text
    assert evaluation.metric in page.text
    assert page.tags.count("img") == len(evaluation.figures) == 2
    assert page.tags.count("svg") == 2
    assert "script" not in page.tags


def test_the_page_of_a_run_shows_its_log_and_all_evaluations(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    save_evaluation(run_dir, replace(evaluation, image_set="other", figures=()))
    page = read(write_run_report(run_dir))
    assert {"val", "other"} <= set(page.text.split())
    assert page.tags.count("svg") == 2 + 2 + 2


def test_a_run_without_evaluations_has_a_page_that_says_so(tmp_path: Path) -> None:
    run_dir, _ = made(tmp_path, conv_dae())
    assert "Nothing evaluated yet" in read(write_run_report(run_dir, tmp_path / "page.html")).text


def test_names_of_files_are_text_not_markup(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    nasty = "<script>alert('&')"
    scores = tuple(replace(score, file=nasty + score.file) for score in evaluation.scores)
    page = read(write_evaluation_report(run_dir, replace(evaluation, scores=scores, noise=nasty)))
    assert nasty in page.text
    assert "script" not in page.tags


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    (run_dir.samples_path / "val" / "worst.png").unlink()
    with pytest.raises(DataError, match=r"worst\.png.*evaluate again"):
        write_evaluation_report(run_dir, evaluation)


def test_estimates_are_labelled_as_such_on_the_page(tmp_path: Path) -> None:
    run_dir, trained = made(tmp_path, conv_dae())
    found = estimate_run(run_dir, trained, images(image_folder(tmp_path)), sigma=None)
    assert load_estimates(run_dir) == [found]
    for page in (read(write_evaluation_report(run_dir, found)), read(write_run_report(run_dir))):
        assert "estimates: no clean truth" in page.text
        assert "no PSNR against a clean image" in " ".join(page.text.split())


def test_a_page_names_the_weights_that_its_figures_are_of(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    assert evaluation.origin is not None
    origin = replace(evaluation.origin, weights="best", step=7, training_data_digest="e" * 64)
    other = replace(evaluation, image_set="other", figures=(), origin=origin)
    save_evaluation(run_dir, other)
    page = read(write_evaluation_report(run_dir, other)).text
    assert "best, step 7" in page
    assert "e" * 16 in page
    assert "last, step 10" not in page
    whole = read(write_run_report(run_dir)).text
    assert whole.index("last, step 10") != whole.index("best, step 7")


def test_a_page_says_what_an_evaluation_lacks(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, conv_dae())
    assert "left <out>" in read(write_evaluation_report(run_dir, replace(evaluation, notes=("left <out>",)))).text


def test_scores_are_kept_when_pictures_can_not_be(tmp_path: Path) -> None:
    run_dir, trained = made(tmp_path, conv_dae())
    run_dir.samples_path.write_text("where pictures would lie")
    folder = image_folder(tmp_path)
    with pytest.raises(OSError, match="samples"):
        evaluate_run(run_dir, trained, images(folder), GaussianNoise((25.0,)), baselines={})
    (kept,) = load_evaluations(run_dir)
    assert (len(kept.at(25.0)), kept.figures) == (6, ())
    with pytest.raises(OSError, match="samples"):
        estimate_run(run_dir, trained, images(folder), sigma=None)
    (estimates,) = load_estimates(run_dir)
    assert (len(estimates.estimates), estimates.figures) == (6, ())


def test_a_network_that_answers_with_no_numbers_is_measured_and_shown_as_such(tmp_path: Path) -> None:
    run_dir, trained = made(tmp_path, conv_dae())
    torch.nn.init.constant_(trained.network.get_parameter("tail.bias"), float("nan"))
    evaluation = evaluate_run(
        run_dir, trained, images(image_folder(tmp_path)), GaussianNoise((15.0, 25.0)), baselines={}
    )
    assert len(load_evaluations(run_dir)[0].worst(25.0, 5)) == 5
    assert len(evaluation.figures) == 2
    assert "nan" in read(write_evaluation_report(run_dir, evaluation)).text


# Networks with a code


def test_labels_that_training_lacks_leave_the_probe_out_with_a_note(tmp_path: Path) -> None:
    run_dir, trained = made(tmp_path, latent("fc_ae"))
    folder = image_folder(tmp_path, count=12, labels=3)
    references = [(subject.clean, subject.label) for subject in images(folder, 8) if subject.label != "2"]
    evaluation = evaluate_run(
        run_dir, trained, images(folder, 8), GaussianNoise((0.0,)), baselines={}, references=references
    )
    assert evaluation.probe is None
    assert any("probe" in note and "2" in note for note in evaluation.notes)
    assert load_evaluations(run_dir) == [evaluation]


@pytest.mark.parametrize("kind", ["vae", "fc_ae"])
def test_a_latent_network_shows_what_its_code_holds(tmp_path: Path, kind: str) -> None:
    run_dir, trained = made(tmp_path, latent(kind))
    folder = image_folder(tmp_path, count=12, labels=2)
    references = [(subject.clean, subject.label) for subject in images(folder, 8)]
    evaluation = evaluate_run(
        run_dir, trained, images(folder, 8), GaussianNoise((0.0, 50.0)), baselines={}, references=references
    )
    names = {Path(figure.file).stem for figure in evaluation.figures}
    assert {"reconstructions", "interpolation", "plane", "worst", "levels"} <= names
    assert ("prior" in names) == (kind == "vae")
    assert "PCA, 2 numbers" in evaluation.methods()
    assert len(evaluation.plane) == 12
    assert {point.label for point in evaluation.plane} == {"0", "1"}
    assert evaluation.probe is not None
    assert evaluation.probe.pca_low <= evaluation.probe.pca_accuracy <= evaluation.probe.pca_high
    page = read(write_evaluation_report(run_dir, evaluation))
    assert "Linear probe" in page.text
    assert "The plane of codes" in page.text


def test_pictures_of_a_latent_network_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (evaluated(tmp_path / name, latent("vae"))[0] for name in ("a", "b"))
    for figure in load_evaluations(first)[0].figures:
        assert (first.samples_path / figure.file).read_bytes() == (second.samples_path / figure.file).read_bytes()


def test_the_planes_of_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    run_dirs = []
    for number in range(3):
        run_dir, _ = evaluated(tmp_path / str(number), latent("vae"))
        run_dirs.append(run_dir)
    write_panel(tmp_path / "plane.html", run_dirs)
    page = read(tmp_path / "plane.html")
    assert page.tags.count("svg") == page.tags.count("img") == 3
    assert "Reconstruction + divergence" in page.text


def ticks(path: Path) -> list[list[str]]:
    """The numbers along both axes of each drawing."""
    drawings = path.read_text(encoding="utf-8").split("<svg")[1:]
    return [re.findall(r'class="tick (?:middle|end)"[^>]*>([^<]*)<', drawing) for drawing in drawings]


def test_all_planes_have_the_same_axes_and_far_codes_are_counted(tmp_path: Path) -> None:
    run_dirs = []
    for number, spread in enumerate((0.01, 4.0)):
        run_dir, evaluation = evaluated(tmp_path / str(number), latent("vae"))
        points = [PlanePoint(spread, spread * np.sin(n), "a") for n in range(300)]
        far = PlanePoint(99.0, 0.0, "a") if spread > 1 else points[0]
        save_evaluation(run_dir, replace(evaluation, plane=(*points, far)))
        run_dirs.append(run_dir)
    write_panel(tmp_path / "plane.html", run_dirs)
    first, second = ticks(tmp_path / "plane.html")
    assert first == second
    assert "99" not in first
    assert "1 of 301 codes lie outside" in read(tmp_path / "plane.html").text


@pytest.mark.parametrize(
    ("loss", "title"),
    [
        ({"kl_weight": 0.0}, "Reconstruction alone"),
        ({"reconstruction_weight": 0.0}, "Divergence alone"),
        ({"kl_weight": 4.0}, "Reconstruction + 4 x divergence"),
    ],
)
def test_a_plane_is_titled_by_what_its_run_minimised(tmp_path: Path, loss: dict[str, float], title: str) -> None:
    config = latent("vae")
    run_dir, _ = evaluated(tmp_path, config.model_copy(update={"loss": config.loss.model_copy(update=loss)}))
    write_panel(tmp_path / "plane.html", [run_dir])
    assert title in read(tmp_path / "plane.html").text


def test_points_of_a_distribution_are_draws_and_of_a_plain_code_the_code(tmp_path: Path) -> None:
    pictures = [subject.clean for subject in images(image_folder(tmp_path, count=8), 8)]
    for kind, is_drawn in (("vae", True), ("fc_ae", False)):
        torch.manual_seed(0)
        network = build_network(latent(kind).network).eval()
        assert isinstance(network, LatentNetwork)
        points = plane_points(network, pictures, ["a"] * 8)
        assert points == plane_points(network, pictures, ["a"] * 8)
        means = encode_all(network, pictures)
        distances = np.abs(np.array([(point.x, point.y) for point in points]) - means).max(axis=1)
        assert (distances > 0.01).all() if is_drawn else (distances < 1e-4).all()


def test_noisy_pictures_are_inlined_as_jpeg_and_flat_ones_without_loss() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    noisy, flat = (to_png(PillowImage.fromarray(samples)) for samples in (noise, np.zeros_like(noise)))
    assert sheet_uri(flat).startswith("data:image/png;base64,")
    assert sheet_uri(noisy).startswith("data:image/jpeg;base64,")
    assert len(sheet_uri(noisy)) < len(noisy)


def test_a_panel_needs_a_shared_set_with_codes_of_two_numbers(tmp_path: Path) -> None:
    run_dir, evaluation = evaluated(tmp_path, latent("fc_ae", code_length=3))
    assert evaluation.plane == ()
    with pytest.raises(DataError, match="code_length 2"):
        write_panel(tmp_path / "plane.html", [run_dir])
    plane = (PlanePoint(0.0, 1.0, "a"),)
    for name in ("one", "two"):
        save_evaluation(run_dir, replace(evaluation, image_set=name, plane=plane))
    with pytest.raises(DataError, match="one, two"):
        write_panel(tmp_path / "plane.html", [run_dir])
    write_panel(tmp_path / "plane.html", [run_dir], "two")
    assert "two" in read(tmp_path / "plane.html").text


# Comparisons


def test_two_runs_are_compared_on_what_both_were_evaluated_on(tmp_path: Path) -> None:
    first, evaluation = evaluated(tmp_path, conv_dae("first"))
    second, _ = made(tmp_path, conv_dae("second", steps=20))
    with pytest.raises(DataError, match="share no evaluation"):
        comparable_sets(first, second)
    better = tuple(replace(score, psnr_db=score.psnr_db + 0.5) for score in evaluation.scores)
    save_evaluation(second, replace(evaluation, scores=better, figures=()))
    sets = comparable_sets(first, second)
    assert "+0.500" in sets[0].table()
    write_comparison(tmp_path / "compare.html", first, second, sets)
    page = read(tmp_path / "compare.html")
    assert "optimiser.steps" in page.text
    assert "+0.500" in page.text
    assert page.tags.count("svg") == 3


def test_only_what_differs_is_listed() -> None:
    assert config_differences(conv_dae("a"), conv_dae("a")) == []
    differences = config_differences(conv_dae("a"), conv_dae("b", steps=20))
    assert differences == [("name", "a", "b"), ("optimiser.steps", "10", "20")]


def test_runs_of_one_name_are_told_apart_by_their_directories(tmp_path: Path) -> None:
    runs = [made(tmp_path / folder, conv_dae())[0] for folder in ("x", "y")]
    assert run_names(runs[0], runs[1]) == ("tiny (first)", "tiny (second)")


def test_crops_show_the_images_on_which_two_networks_differ_most(tmp_path: Path) -> None:
    config = conv_dae()
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build_network(config.network).eval()
        torch.nn.init.normal_(network.get_parameter("tail.bias"), std=0.1)
        networks.append(network)
    picture = crop_sheet(
        networks[0], networks[1], images(image_folder(tmp_path)), GaussianNoise((25.0,)), ("one", "other")
    )
    assert re.match("data:image/(png|jpeg);base64,", picture.uri)
