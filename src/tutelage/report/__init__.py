"""The HTML page that a run leaves behind, pages about several runs, and what follows one that goes on."""

from tutelage.report.build import build_report, outcome
from tutelage.report.export import write_tables
from tutelage.report.overlay import build_overlay

__all__ = ["build_overlay", "build_report", "outcome", "write_tables"]
