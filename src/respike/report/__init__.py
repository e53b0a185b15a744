"""Run directories in, a report out: tables, figures and a page. It reads files only and computes nothing anew."""

from respike.report.collect import Run, find_runs, find_unfinished, load_run
from respike.report.page import write_report
from respike.report.render import to_csv, to_markdown, to_text
from respike.report.table import Row, rows

__all__ = [
    "Row",
    "Run",
    "find_runs",
    "find_unfinished",
    "load_run",
    "rows",
    "to_csv",
    "to_markdown",
    "to_text",
    "write_report",
]
