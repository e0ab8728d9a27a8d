"""The HTML page that a run leaves behind."""

from tutelage.report.build import build_report, outcome

__all__ = ["build_report", "outcome"]
