"""Rows as Markdown, as CSV for machines and as aligned text for the terminal."""

import csv
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from respike.report.collect import REQUIRED_METRICS
from respike.report.columns import MAIN, Column
from respike.report.table import Row

GAP = "  "
# A line may also end after - and _, between digits too: 784-1200-1200-10 has no other place. Not at a no-break space.
WORD_END = re.compile(r"( |(?<=[-_])(?=.))")


def to_markdown(rows: Sequence[Row], columns: Sequence[Column] = MAIN) -> str:
    """A GitHub table with one line per row; ends without a newline."""
    lines = [[markdown_text(column.heading) for column in columns], ["---:" if c.number else "---" for c in columns]]
    lines += [[markdown_text(column.cell(row)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a table cell as well."""
    for mark in "\\`*[]|~":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def to_csv(rows: Sequence[Row], path: Path) -> None:
    """Write one line per row with every metric as a column; accuracies are fractions, unknowns empty."""
    records = [_record(row) for row in rows]
    # The empty row names the columns where there is nothing to list.
    fields = dict.fromkeys(name for record in (_record(Row(name="", verdict="")), *records) for name in record)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _record(row: Row) -> dict[str, Any]:
    known = {
        "row": row.name,
        "method": row.method,
        "source": row.source,
        "headline": row.headline,
        "published": row.published,
        "ours": row.ours,
        "difference": row.difference,
        "tolerance": row.tolerance,
        "verdict": row.verdict,
        "data": row.data,
        "reduced": row.reduced,
        "skipped": row.skipped,
        "test_images": row.number("test_images"),
        "budget_min": row.budget_min,
        "seed": row.run.config.get("seed") if row.run else None,
    }
    metrics = row.run.metrics if row.run else {}
    return known | {name: metrics[name] for name in sorted(metrics) if name not in REQUIRED_METRICS}


def to_text(rows: Sequence[Row], width: int = 120, columns: Sequence[Column] = MAIN) -> str:
    """An aligned table for a terminal of `width` columns; long cells wrap between words and after - and _.

    It stays within `width` as long as that leaves each column its longest word.
    Reasons for reduced and skipped rows follow below the table.
    """
    head = [column.heading for column in columns]
    body = [[_short(row, column) for column in columns] for row in rows]
    stacks = list(zip(head, *body, strict=True))
    widths = _fit([_span(stack, column) for stack, column in zip(stacks, columns, strict=True)], width)
    lines = [*_lines(head, widths, columns), GAP.join("-" * w for w in widths)]
    for cells in body:
        lines += _lines(cells, widths, columns)
    notes = [_note(row) for row in rows if row.reduced or row.skipped]
    wrapped = [textwrap.fill(note, width, subsequent_indent="    ") for note in notes]
    return "\n".join([*lines, *([""] if notes else []), *wrapped])


def _note(row: Row) -> str:
    return f"{row.name} is reduced: {row.reduced}" if row.reduced else f"{row.name} was skipped: {row.skipped}"


def _short(row: Row, column: Column) -> str:
    # The reasons would make the narrowest columns the longest: they go below the table.
    text = column.cell(row)
    reason = row.reduced or row.skipped
    return text.removesuffix(f": {reason}") if reason else text


def _span(cells: Sequence[str], column: Column) -> tuple[int, int]:
    """The least and the natural width of a column: numbers and words stay whole, headings wrap."""
    heading, *body = cells
    widest = max(map(len, body), default=0)
    whole = widest if column.number else max((len(word) for cell in body for word in WORD_END.split(cell)), default=0)
    longest_word = max(map(len, WORD_END.split(heading)))
    return max(whole, longest_word), max(widest, longest_word)


def _fit(spans: Sequence[tuple[int, int]], width: int) -> list[int]:
    widths = [natural for _, natural in spans]
    room = width - len(GAP) * (len(spans) - 1)
    while sum(widths) > room:
        slack = [current - least for current, (least, _) in zip(widths, spans, strict=True)]
        if max(slack) == 0:
            break
        widest = max((i for i, free in enumerate(slack) if free), key=lambda i: widths[i])
        widths[widest] -= 1
    return widths


class _Wrapper(textwrap.TextWrapper):
    wordsep_re = WORD_END


def _lines(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> list[str]:
    wrapped = [_Wrapper(w).wrap(cell) or [""] for cell, w in zip(cells, widths, strict=True)]
    lines = []
    for i in range(max(map(len, wrapped))):
        parts = [part[i] if i < len(part) else "" for part in wrapped]
        aligned = [p.rjust(w) if c.number else p.ljust(w) for p, w, c in zip(parts, widths, columns, strict=True)]
        lines.append(GAP.join(aligned).rstrip())
    return lines
