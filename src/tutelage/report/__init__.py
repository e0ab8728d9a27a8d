"""The HTML page that a run leaves behind."""

from tutelage.report.build import build_report

__all__ = ["build_report"]
