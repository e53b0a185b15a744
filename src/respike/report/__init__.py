"""Run directories in, a report out: tables, figures and a page. It reads files and runs nothing."""

from respike.report.page import write_report
from respike.report.runs import load_runs
from respike.report.tables import to_csv, to_markdown, to_text
from respike.report.verdicts import judge

__all__ = ["judge", "load_runs", "to_csv", "to_markdown", "to_text", "write_report"]
