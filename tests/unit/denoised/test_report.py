"""The page as text; how it behaves in a browser is tested in ``tests/e2e``."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from denoised.report import Figures, ReportEntry, write_report

RGB = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = RGB[..., 0]

TIMES, DASH = "\u00d7", "\u2013"


class Reader(HTMLParser):
    """Collects what the tests look at, and fails on tags that do not close in order."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def page_of(tmp_path: Path, *entries: ReportEntry, **options: Any) -> Reader:
    path = tmp_path / "new" / "index.html"
    write_report(path, entries, **options)
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def decoded(source: str | None) -> NDArray[np.uint8]:
    assert source is not None
    head, body = source.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("before", [GREY, RGB, np.dstack([RGB, GREY])])
def test_the_pictures_of_the_page_are_the_pictures_given(tmp_path: Path, before: NDArray[np.uint8]) -> None:
    after, original = before // 2, before // 3
    page = page_of(tmp_path, ReportEntry("a", before, after, original))
    shown = [decoded(image["src"]) for image in page.of("img")]
    assert len(shown) == 3
    for picture, expected in zip(shown, (after, before, original), strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = page_of(tmp_path, ReportEntry("a", RGB, RGB))
    assert page.of("link") == []
    assert all(not attributes.get("src") for attributes in page.of("script"))
    assert all(str(attributes.get("src", "data:")).startswith("data:") for _, attributes in page.attributes)
    policies = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])
    assert not re.search(r"https?://|@import|url\(", (tmp_path / "new" / "index.html").read_text(encoding="utf-8"))


def test_names_and_notes_are_text_not_markup(tmp_path: Path) -> None:
    nasty = "<script>alert('\"&')</script>.png"
    page = page_of(tmp_path, ReportEntry(nasty, RGB, RGB, note=nasty), title=nasty, lead=nasty)
    assert len(page.of("script")) == 1
    for tag in ("title", "h1", "h2", "a"):
        assert page.text_of(tag) == [nasty]
    assert page.of("img")[0]["alt"] == f"{nasty}, denoised"


def test_each_slider_has_a_label_and_each_row_leads_to_its_card(tmp_path: Path) -> None:
    page = page_of(tmp_path, ReportEntry("a", RGB, RGB), ReportEntry("b", GREY, GREY))
    sliders = [attributes["id"] for attributes in page.of("input") if attributes["type"] == "range"]
    assert [label["for"] for label in page.of("label") if "for" in label] == sliders
    assert len(set(sliders)) == 2
    cards = [f"#{article['id']}" for article in page.of("article")]
    assert [link["href"] for link in page.of("a")] == cards


def test_figures_are_shown_with_their_gain_and_missing_ones_leave_no_column(tmp_path: Path) -> None:
    known = Figures(sigma_added=25, sigma_found=24.66, psnr_before_db=20.5, psnr_after_db=30.25)
    page = page_of(
        tmp_path, ReportEntry("a", RGB, RGB, figures=known), ReportEntry("b", RGB, RGB, figures=Figures(sigma_found=3))
    )
    headings = page.text_of("button")
    assert headings == ["Image", "Pixels", "Noise added", "Noise found", "PSNR before", "PSNR after", "Gain, dB"]
    assert page.text_of("td")[:6] == [f"32 {TIMES} 24", "25.0", "24.7", "20.50", "30.25", "+9.75"]
    assert page.text_of("td")[6:] == [f"32 {TIMES} 24", DASH, "3.0", DASH, DASH, DASH]
    assert page.text_of("b") == ["+9.75"]


def test_large_pictures_are_cropped_never_scaled(tmp_path: Path) -> None:
    tall = np.random.default_rng(1).integers(0, 256, (1700, 20), dtype=np.uint8)
    page = page_of(tmp_path, ReportEntry("a", tall, tall))
    np.testing.assert_array_equal(decoded(page.of("img")[0]["src"]), tall[50:1650])
    assert f"the middle of 20 {TIMES} 1700 pixels" in page.text_of("p")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(RGB, RGB[1:], "after"), (RGB[0, 0], RGB[0, 0], "shows"), (RGB[..., :2], RGB[..., :2], "shows")],
)
def test_pictures_that_do_not_fit_are_refused(before: NDArray[np.uint8], after: NDArray[np.uint8], words: str) -> None:
    with pytest.raises(ValueError, match=f"a.png.*{words}"):
        ReportEntry("a.png", before, after)
