"""The report in a real browser: the controls do what they say. Needs Chromium; skipped where there is none."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoised.report import Figures, ReportEntry, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the chromium package"),
]

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,2000"),
)


def observe(tmp_path: Path, script: str) -> Any:
    """What ``script`` returns when it runs in the finished page; it may await."""
    before = np.full((64, 96, 3), 100, dtype=np.uint8)
    entries = [
        ReportEntry("dim", before, before - 3, before - 5, Figures(psnr_before_db=20, psnr_after_db=25)),
        ReportEntry("bright", before, before + 100, figures=Figures(psnr_before_db=20, psnr_after_db=31)),
    ]
    page = tmp_path / "index.html"
    write_report(page, entries)
    probe = f"""<script>
(async () => {{
  const card = document.querySelector(".card");
  const stage = card.querySelector(".stage");
  const range = card.querySelector("input[type=range]");
  const before = card.querySelector(".layer.before");
  const pick = (value) => {{ const input = card.querySelector(`input[value="${{value}}"]`); input.click(); }};
  const seen = await (async () => {{ {script} }})();
  document.body.innerHTML = `<output>${{JSON.stringify(seen)}}</output>`;
}})();
</script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    assert CHROMIUM is not None
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    finished = subprocess.run(
        [CHROMIUM, *QUIET, profile, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"<output>(.*)</output>", finished.stdout)
    assert found is not None, finished.stdout[-2000:] + finished.stderr[-2000:]
    return json.loads(found[1])


def test_the_range_cuts_the_picture_where_it_stands(tmp_path: Path) -> None:
    cuts = observe(
        tmp_path,
        """
        const cuts = [getComputedStyle(before).clipPath];
        for (const value of [20, 100]) {
          range.value = value;
          range.dispatchEvent(new Event("input"));
          cuts.push(getComputedStyle(before).clipPath);
        }
        return cuts;
        """,
    )
    assert [re.findall(r"[\d.]+%", cut) for cut in cuts] == [["50%"], ["80%"], ["0%"]]


def test_the_pointer_moves_the_range_too(tmp_path: Path) -> None:
    value, cut = observe(
        tmp_path,
        """
        const box = stage.getBoundingClientRect();
        const at = (share) => ({ clientX: box.left + box.width * share, clientY: box.top + 5, pointerId: 1 });
        stage.setPointerCapture = () => {};
        stage.dispatchEvent(new PointerEvent("pointerdown", at(0.5)));
        stage.dispatchEvent(new PointerEvent("pointermove", at(0.25)));
        stage.dispatchEvent(new PointerEvent("pointerup", at(0.25)));
        stage.dispatchEvent(new PointerEvent("pointermove", at(0.9)));
        return [range.value, getComputedStyle(before).clipPath];
        """,
    )
    assert float(value) == pytest.approx(25, abs=0.5)
    assert "75%" in cut


def test_differences_are_eight_times_as_strong_around_grey(tmp_path: Path) -> None:
    removed, left, visible = observe(
        tmp_path,
        """
        const canvas = card.querySelector("canvas");
        const shown = async (name) => {
          canvas.width = 0;
          pick(name);
          while (canvas.width === 0) await new Promise((done) => setTimeout(done, 20));
          return [...canvas.getContext("2d").getImageData(9, 9, 1, 1).data];
        };
        return [await shown("removed"), await shown("left"), getComputedStyle(before).visibility];
        """,
    )
    assert removed == [128 + 8 * 3] * 3 + [255]
    assert left == [128 + 8 * 2] * 3 + [255]
    assert visible == "hidden"


def test_zooming_keeps_the_middle_and_the_arrow_keys_stop_at_the_edge(tmp_path: Path) -> None:
    middle, edge, width, height = observe(
        tmp_path,
        """
        pick("4");
        const corner = () => ["--zoom", "--x", "--y"].map((name) => parseFloat(stage.style.getPropertyValue(name)));
        const middle = corner();
        const press = () => stage.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
        for (let count = 0; count < 200; count++) press();
        return [middle, corner(), stage.clientWidth, stage.clientHeight];
        """,
    )
    assert middle == pytest.approx([4, -1.5 * width, -1.5 * height])
    assert edge == pytest.approx([4, 0, -1.5 * height])


def test_the_table_sorts_by_a_click_on_its_heading(tmp_path: Path) -> None:
    orders = observe(
        tmp_path,
        """
        const names = () => [...document.querySelectorAll("tbody a")].map((link) => link.textContent);
        const headings = [...document.querySelectorAll("th button")];
        const heading = headings.find((button) => button.textContent.startsWith("Gain"));
        const orders = [names()];
        for (let click = 0; click < 2; click++) { heading.click(); orders.push(names()); }
        orders.push(heading.parentElement.getAttribute("aria-sort"));
        return orders;
        """,
    )
    assert orders == [["dim", "bright"], ["dim", "bright"], ["bright", "dim"], "descending"]
