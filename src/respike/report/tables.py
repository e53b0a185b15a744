"""Tables of runs as Markdown, as CSV and as text for a terminal."""

import re
import textwrap
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from respike.metrics.interval import half_interval
from respike.report.columns import RESULTS, TERMINAL, Column, without_single_seeds
from respike.report.runs import metric_names

GAP = "  "
# A line may also end after - and _, because names of networks and runs have no spaces. Not at a no-break space.
WORD_END = re.compile(r"( |(?<=[-_])(?=.))")
HEAD_END = re.compile(r"(?<!=)( )(?!=)")  # "T = 16" stays on one line
RESULT_FIELDS = (
    "method", "source", "headline", "published", "ours", "half_interval", "difference", "tolerance", "verdict", "departs",
    "data", "reduced", "failure", "test_images", "budget_min", "seeds", "cfg.seed", "changed",
)  # fmt: skip


def to_markdown(judged: pd.DataFrame, columns: Sequence[Column] = RESULTS) -> str:
    """A GitHub table with a line per row of a frame from `judge`; ends without a newline."""
    cells = [[column.cell(run) for column in columns] for _, run in judged.iterrows()]
    return markdown_table([column.short_heading for column in columns], cells, [column.is_number for column in columns])


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """A GitHub table of texts. right: the columns that are aligned to the right, all but the first by default."""
    if right is None:
        right = [False, *[True] * (len(heads) - 1)]
    lines = [heads, *rows]
    texts = [[markdown_text(cell) for cell in line] for line in lines]
    texts.insert(1, ["---:" if number else "---" for number in right])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in texts)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a table cell as well."""
    for mark in "\\`*[]|~":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def to_csv(judged: pd.DataFrame, path: Path) -> None:
    """Write a line per row of a frame from `judge`, with every metric; accuracies are fractions, unknown values empty.

    half_interval: half the 95 % interval of `ours` over the seeds.
    """
    fields = [*RESULT_FIELDS, *metric_names(judged)]
    halves = [half_interval(run["over_seeds"].get(run["headline"], ())) for _, run in judged.iterrows()]
    table = judged.assign(half_interval=halves, departs=judged["departs"].map("; ".join))
    table = table.reindex(columns=fields).rename(columns={"failure": "skipped", "cfg.seed": "seed"})
    table.to_csv(path, index_label="row", lineterminator="\n")


def to_text(judged: pd.DataFrame, width: int = 100) -> str:
    """The results for a terminal of `width` characters; below them each row's network, data and reasons."""
    columns = without_single_seeds(TERMINAL, judged)
    cells = [[column.cell(run) for column in columns] for _, run in judged.iterrows()]
    table = pd.DataFrame(cells, columns=[column.short_heading for column in columns], dtype=object)
    left = [column.short_heading for column in columns if not column.is_number]
    notes = [
        textwrap.fill(_note(run), width, subsequent_indent="    ", break_on_hyphens=False)
        for _, run in judged.iterrows()
    ]
    return "\n".join([text_table(table, width, left), "", *notes]).rstrip()


def _note(run: pd.Series) -> str:
    if run["failure"]:
        return f"{run.name} was skipped: {run['failure']}"
    parts = [run["method"], run["data"], *run["departs"]]
    return f"{run.name}: {'; '.join(filter(None, parts))}"


def text_table(cells: pd.DataFrame, width: int, left: Collection[str] = ()) -> str:
    """A table of texts, aligned for a terminal; headings, and the columns named in `left`, wrap where it is too wide.

    Where the columns do not fit even so, rows are numbered and the table continues below.
    """
    least = [_span(name, cells[name], name in left)[0] for name in cells.columns]
    if sum(least) + len(GAP) * (len(least) - 1) > width:
        cells = cells.copy()
        cells.insert(0, "#", [str(i) for i in range(1, len(cells) + 1)])
    blocks, names = [], list(cells.columns)
    spans = {name: _span(name, cells[name], name in left) for name in names}
    while names:
        taken = _fitting([spans[name][0] for name in names], width)
        blocks.append(_block(cells[names[:taken]], spans, width, left))
        rest = names[taken:]
        names = [cells.columns[0], *rest] if rest else []
    return "\n\n".join(blocks)


def _fitting(least: Sequence[int], width: int) -> int:
    """How many columns fit, two at the least: the first one is repeated in every block."""
    taken = min(2, len(least))
    while taken < len(least) and sum(least[: taken + 1]) + len(GAP) * taken <= width:
        taken += 1
    return taken


def _span(heading: str, column: pd.Series, wraps: bool) -> tuple[int, int]:
    """The least and the natural width of a column."""
    widest = max(map(len, column), default=0)
    whole = max((len(word) for cell in column for word in WORD_END.split(cell)), default=0) if wraps else widest
    longest_word = max(map(len, HEAD_END.split(heading)))
    return max(whole, longest_word), max(widest, longest_word)


def _block(cells: pd.DataFrame, spans: dict[str, tuple[int, int]], width: int, left: Collection[str]) -> str:
    widths = {name: spans[name][1] for name in cells.columns}
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths.values()) > room:
        shrinkable = [name for name in widths if widths[name] > spans[name][0]]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda name: widths[name])] -= 1
    heads = [_wrapped(name, size, HEAD_END) for name, size in widths.items()]
    deepest = max(map(len, heads))
    lines = list(zip(*([""] * (deepest - len(head)) + head for head in heads), strict=True))
    lines.append(tuple("-" * size for size in widths.values()))
    for row in cells.itertuples(index=False):
        wrapped = [_wrapped(cell, size) for cell, size in zip(row, widths.values(), strict=True)]
        lines += zip_longest(*wrapped, fillvalue="")
    aligned = [
        [_aligned(part, widths[name], name in left) for name, part in zip(widths, line, strict=True)] for line in lines
    ]
    return "\n".join(GAP.join(parts).rstrip() for parts in aligned)


def _aligned(text: str, width: int, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)


def _wrapped(text: str, width: int, ends: re.Pattern[str] = WORD_END) -> list[str]:
    wrapper = textwrap.TextWrapper(width)
    wrapper.wordsep_re = ends
    return wrapper.wrap(text) or [""]
