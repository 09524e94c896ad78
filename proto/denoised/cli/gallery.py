"""The page of a run: every image in a table, the noisiest as pictures before and after. Needs Pillow.

Pictures are read back from the files when the run is over, so that a run of any length holds none of them.
"""

import heapq
from pathlib import Path
from typing import Final

from denoised._pictures import shown_picture
from denoised.cli.batch import Record, Tally
from denoised.report import Failure, Figures, ReportEntry, write_report

# A page of some tens of megabytes, which browsers still open at once.
_MOST_PICTURES: Final = 24


class Gallery:
    """Remembers the worst of what is done, and what failed."""

    def __init__(self) -> None:
        self._worst: list[tuple[float, int, Record]] = []
        self._failures: list[Failure] = []
        self._count = 0

    def add(self, record: Record) -> None:
        """Takes the next record."""
        if record.state == "failed":
            self._failures.append(Failure(str(record.source), record.message))
        if record.result is None:
            return
        self._count += 1
        noise_sigma = -1.0 if record.result.noise_sigma is None else record.result.noise_sigma
        # The count decides between equals: records have no order.
        heapq.heappush(self._worst, (noise_sigma, self._count, record))
        if len(self._worst) > _MOST_PICTURES:
            heapq.heappop(self._worst)

    def write(self, path: Path, tally: Tally) -> None:
        """Writes the page.

        Raises:
            OSError: it can't be written.
        """
        entries = [entry for _, _, record in sorted(self._worst, reverse=True) for entry in _entry(record)]
        shown = "all of them" if len(entries) == tally.done else f"the {len(entries)} with the most noise"
        write_report(path, entries, failures=self._failures, title="Cleaned images", lead=f"{tally}. Below: {shown}.")


def _entry(record: Record) -> list[ReportEntry]:
    """Nothing of an image that can't be read any more; that it was done stays true."""
    assert record.result is not None
    assert record.target is not None
    try:
        before, after = shown_picture(record.source), shown_picture(record.target)
    except (OSError, ValueError):
        return []
    if before.shape != after.shape:
        return []
    figures = Figures(sigma_found=record.result.noise_sigma, total_ms=1000 * record.result.timings.total_s)
    return [ReportEntry(str(record.source), before, after, figures=figures, note=_note(record))]


def _note(record: Record) -> str:
    assert record.result is not None
    model = f"{record.result.model.name} {record.result.model.version}"
    if record.result.sigma_in_trained_range is False:
        return f"{model}; more noise than it was trained for"
    return model
