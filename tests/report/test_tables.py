"""Every table holds every row; the numbers of the CSV are those of the runs; text fits the terminal."""

import csv
import json
import re

import pandas as pd
import pytest

from respike.report import judge, load_runs, to_csv, to_markdown, to_text
from respike.report.columns import DETAILS, METRICS, RESULTS, count, duration, latency, percent, points
from respike.report.runs import with_skipped
from respike.report.tables import text_table
from respike.report.verdicts import REPRODUCED, SKIPPED

NAMES = ("ann/test_acc", "snn/test_acc", "snn/agreement", "energy/snn_nj", "snn/rate/fc2")


def judged(paths, skipped=None):
    return judge(with_skipped(load_runs(paths), skipped or {}))


def test_skipped_rows_are_in_every_table_with_their_reason(make_run):
    rows = judged([make_run("a")], {"resnet19": "needs a GPU"})
    assert list(rows["verdict"]) == [REPRODUCED, SKIPPED]
    for rendered in (to_markdown(rows), to_text(rows)):
        assert "resnet19" in rendered and "needs a GPU" in rendered


def test_the_numbers_of_the_csv_are_those_of_metrics_json(many_runs, tmp_path):
    rows = judged([many_runs], {"later": 'no "data", yet'})
    to_csv(rows, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert [record["row"] for record in records] == list(rows.index)
    for record, (_, row) in zip(records, rows.iterrows(), strict=True):
        assert (record["verdict"], record["reduced"], record["skipped"]) == (
            row["verdict"],
            row["reduced"],
            row["failure"],
        )
        for field in ("published", "difference", "ours"):
            assert record[field] == ("" if pd.isna(row[field]) else repr(row[field]))
        file = row["path"] / "metrics.json"
        metrics = json.loads(file.read_text()) if file.is_file() else {}
        for name in NAMES:
            assert record[name] == (repr(metrics[name]) if name in metrics else "")


def test_markdown_has_the_same_number_of_cells_in_every_line(many_runs):
    rows = judged([many_runs], {"a|b\nc": "because | of\nthis"})
    for columns in (RESULTS, DETAILS):
        lines = to_markdown(rows, columns).splitlines()
        assert len(lines) == len(rows) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(columns) + 1}


def test_markdown_shows_a_name_as_it_is():
    table = to_markdown(judged([], {"<b>|`x`*": "&"}))
    assert r"&lt;b&gt;\|\`x\`\*" in table and "skipped: &amp;" in table


@pytest.mark.parametrize("width", [100, 120, 200])
def test_text_fits_the_terminal_and_loses_no_word(many_runs, width):
    rows = judged([many_runs], {"later": "no data"})
    text = to_text(rows, width)
    assert max(map(len, text.splitlines())) <= width
    pieces = set(re.split(r"\s+|(?<=[-_])|;", text))
    for _, row in rows.iterrows():
        words = set(re.split(r"\s+|(?<=[-_])", f"{row.name} {row['method']} {row['verdict']}")) - {""}
        assert words <= pieces
    assert "reduced: 1 of 5 epochs; 1000 test images" in " ".join(text.split())


@pytest.mark.parametrize("width", [20, 40, 60, 300])
def test_a_table_of_many_columns_continues_below_and_keeps_every_cell(width):
    cells = pd.DataFrame({f"column {i}": [f"{i}.{row}" * 2 for row in range(3)] for i in range(12)})
    text = text_table(cells, width)
    assert max(map(len, text.splitlines())) <= width
    for block in text.split("\n\n"):
        assert len(block.splitlines()) == 6 or width == 300
    found = text.split()
    assert all(found.count(cell) == 1 for cell in cells.to_numpy().ravel())


def test_a_number_of_steps_in_a_heading_stays_on_one_line():
    cells = pd.DataFrame({"method": ["a"], "T = 4 (%)": ["1"], "T = 16 (%)": ["2"], "spikes, T = 16": ["3"]})
    above, below = (re.split(r"  +", line.strip()) for line in text_table(cells, 80).splitlines()[:2])
    assert above == ["T = 4", "T = 16", "spikes,"] and below == ["method", "(%)", "(%)", "T = 16"]


def test_numbers_for_people(make_run):
    assert [percent(x) for x in (1.0, 0.99998, 0.999951, 0.99994)] == ["100.00 %", "99.998 %", "99.995 %", "99.99 %"]
    assert [count(999.4), count(999.6), count(-1000)] == ["999", "1,000", "-1,000"]
    assert [percent(x) for x in (0.0, 2e-6, 4e-5, 5e-5)] == ["0.00 %", "0.0002 %", "0.004 %", "0.01 %"]
    assert METRICS["ttfs/certified"].text(0.9999996) == "99.99996" and METRICS["ttfs/early"].text(2e-6) == "0.0002"
    assert [percent(0.986), points(-0.0013), points(-1e-9), points(None)] == ["98.60 %", "-0.13", "+0.00", "–"]
    assert [count(22612.4), count(0.0), count(3.14159), count(float("nan"))] == ["22,612", "0", "3.14", "–"]
    assert [duration(s) for s in (1.44, 48.2, 210, 7560)] == ["1.4 s", "48 s", "3.5 min", "2.1 h"]
    run = load_runs([make_run("a", metrics={"snn/steps_to_1pct": 1, "snn/time_to_1pct_ms": 0.5})]).iloc[0]
    assert latency(run).replace("\u00a0", " ") == "1 step, 0.5 ms"
