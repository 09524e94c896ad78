"""The energy report of an image: which images get one, what it is made of, and how it is told.

``budget`` decides (pure), ``samples`` are what lanes put aside of an image, ``passes`` are what is asked of the network
besides, ``maker`` makes the report in a codec's thread, and ``message`` writes it. What the numbers mean, and what
follows from them, is in ``denoised.statistics`` and ``denoised.verdicts``.
"""

from service.report.budget import ReportBudget
from service.report.maker import ReportMaker, ReportPlan

__all__ = ["ReportBudget", "ReportMaker", "ReportPlan"]
