"""A network's pace is told beside that of a plain chain; the stopwatch is handed in, the arithmetic is checked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

from denoised.contract import MODEL_FILE, ModelContract
from tests.unit.training.export.small import FC_AE, run_of
from tests.unit.training.run.tiny import CONV_DAE
from training.__main__ import main
from training.data.pack import Pack
from training.errors import ExportError
from training.export import onnx_file, pace
from training.export.pace import chain_gmac_per_megapixel, chain_of_convolutions, measure_pace
from training.export.publish import export
from training.export.speed import SpeedUp
from training.run.published import open_published

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def version(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pace")
    run = run_of(folder / "run", pack, network=CONV_DAE, spread=0.0001)
    return export(run, pack, folder / "store", version=None, calibration_crop_count=16).path.parent


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain takes 8 ms for 512 x 512 pixels, the network half of that."""

    def measure(chain: bytes, network: bytes, *, channels: int, multiple_px: int) -> list[SpeedUp]:
        assert chain == chain_of_convolutions(channels)
        assert len(network) > 0
        return [SpeedUp(512, 512, 2.0, 1.9, 2.1, 8.0, 4.0, 15)]

    monkeypatch.setattr(pace, "speed_up", measure)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_chain_costs_what_is_counted_and_halves_the_sides(channels: int) -> None:
    model = onnx.load_from_string(chain_of_convolutions(channels))
    per_pixel = sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer) / 4
    assert chain_gmac_per_megapixel(channels) == per_pixel / 1e3
    picture = np.random.default_rng(1).random((2, channels, 16, 24), dtype=np.float32)
    answer = onnx_file.run(onnx_file.session(model.SerializeToString()), noisy=picture)["denoised"]
    assert answer.shape == (2, 64, 8, 12)
    # Values that died out, or blew up, would have another speed.
    assert 0.01 < float(answer.std()) < 10


@pytest.mark.usefixtures("stopwatch")
def test_the_share_is_of_multiplications_per_second_not_of_time(version: Path) -> None:
    published = open_published(version)
    contract: ModelContract = replace(published.contract, gmac_per_megapixel=chain_gmac_per_megapixel(1) / 4)
    (found,) = measure_pace(published.model_bytes, contract)
    assert (found.share, found.low, found.high) == pytest.approx((0.5, 0.475, 0.525))
    assert found.chain_gmac_per_s == pytest.approx(chain_gmac_per_megapixel(1) * 0.512**2 / 0.008)
    assert found.gmac_per_s == pytest.approx(found.chain_gmac_per_s / 2)


@pytest.mark.usefixtures("stopwatch")
def test_the_verb_tells_the_pace_and_can_be_a_gate(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = open_published(version).contract.gmac_per_megapixel
    share = 2 * cost / chain_gmac_per_megapixel(1)
    assert main(["pace", str(version / MODEL_FILE), "--at-least", f"{share - 0.01}"]) == 0
    printed = capsys.readouterr().out
    assert f"tiny, version 1, fp32: {cost} GMAC/MP" in printed
    assert f"512 x 512: 4.00 ms, {cost * 0.512**2 / 0.004:.1f} GMAC/s, {share:.2f} of the chain's" in printed
    assert main(["pace", str(version), "--at-least", f"{share + 0.01}"]) == 1
    assert f"tiny computes at {share:.2f} of a plain chain's pace on 512 x 512 pixels" in capsys.readouterr().err


def test_a_network_of_one_size_is_refused(pack: Pack, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", pack, network=FC_AE)
    path = export(run, pack, tmp_path / "store", version=None, calibration_crop_count=16).path
    published = open_published(path)
    with pytest.raises(ExportError, match="takes 16 x 16 pixels alone"):
        measure_pace(published.model_bytes, published.contract)
