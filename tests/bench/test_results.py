"""What the tables and the figure say of rows, failed ones included."""

import csv
from itertools import pairwise

import pytest
import torch

from respike.bench import rate_rows
from respike.bench.__main__ import main, parse
from respike.bench.agreement import agreement
from respike.bench.contenders import CONTENDERS, Contender, named
from respike.bench.figure import figure
from respike.bench.plan import Plan
from respike.bench.rows import run
from respike.bench.table import facts_of, markdown, write_csv

TITLE = "FC 784-1200-1200-10, 40 steps"
COMMON = {"work": "diehl_fc", "title": TITLE, "steps": 40, "reduced": ""}
TIMED = {
    "part": "simulate", "name": "ours, float32", "arithmetic": "float32", "fires": ">=", "images": 500, "batch": None,
    "runs": 3, "seconds": 1.0, "seconds_min": 0.9, "seconds_max": 1.5, "seconds_per_10000": 20.0,
    "images_per_second": 500.0, "accuracy": 0.9861, "peak_mib": 700.0, "share_fp32": 0.5, "share_bf16": 0.25,
} | COMMON  # fmt: skip
MISSING = {
    "part": "simulate", "name": "Norse", "arithmetic": "float32", "fires": ">", "reason": "not installed: norse"
} | COMMON  # fmt: skip
ROWS = [
    {"part": "floor", "name": "bare products", "fp32": 10.0, "bf16": 5.0, "macs": 2_392_800} | COMMON,
    TIMED,
    TIMED | {"name": "Norse", "runs": 1, "batch": 100, "fires": ">"},
    MISSING,
    {"part": "agreement", "name": "grid / float32", "images": 500, "predictions_differ": 0.001, "counts_differ": 0.0,
     "accuracy_gap": -0.002} | COMMON,
    {"part": "train", "name": "ours, Lightning", "reason": "RuntimeError: no"} | COMMON,
    {"part": "direct", "name": "ours, fused", "arithmetic": "float32", "images": 16, "batch": 16, "runs": 8,
     "seconds": 0.8, "seconds_min": 0.64, "seconds_max": 1.6, "images_per_second": 20.0, "mib_per_image": 12.25,
     "peak_mib": 800.0} | COMMON,
    {"part": "cost against images", "name": "ours", "images": 100, "seconds": 0.1} | COMMON,
    {"part": "cost against steps", "name": "ours", "images": 100, "seconds": 0.1} | COMMON,
]  # fmt: skip
FACTS = facts_of("a processor, 2 threads", (25, 100), 1000)


def test_the_csv_has_every_row_and_says_why_one_is_empty(tmp_path):
    write_csv(ROWS, tmp_path / "bench.csv")
    with (tmp_path / "bench.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["name"] for row in read] == [row["name"] for row in ROWS]
    assert float(read[1]["accuracy"]) == 0.9861
    assert (read[3]["reason"], read[3]["seconds"]) == ("not installed: norse", "")


def test_the_page_has_time_accuracy_range_floor_and_reasons():
    page = markdown(ROWS, FACTS)
    (ours,) = (line for line in page.splitlines() if line.startswith("| ours, float32"))
    for said in ("20", "3: 18 to 30 s", "500", "98.61 %", "own", "≥", "50 %", "25 %", "700 MiB"):
        assert said in ours
    assert "| Norse | – not installed: norse |" in page
    assert "| ours, Lightning | – RuntimeError: no |" in page
    assert "| ours, fused | 50.0 | 40.0 to 100.0 | 8 | 16 | float32 | 12.2 MiB | 800 MiB |" in page
    assert "-0.20" in page and "95.7 million" in page and "a processor, 2 threads" in page
    assert "Reduced" not in page
    assert "**Reduced, not to be quoted:** 100 of 10,000" in markdown([TIMED | {"reduced": "100 of 10,000"}], FACTS)


def test_every_table_is_rectangular():
    lines = [line.replace("\\|", "") for line in markdown(ROWS, FACTS).splitlines()]
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")


def test_the_figure_has_a_panel_per_work_and_a_dot_per_timed_contender():
    drawn = figure([*ROWS, TIMED | {"title": "CNN, 41 steps"}])
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes}
    assert {TITLE, "CNN, 41 steps"} <= set(panels)
    assert [label.get_text() for label in panels[TITLE].get_yticklabels()] == ["ours, float32", "Norse"]
    assert panels[TITLE].get_xscale() == "log"
    floors = {line.get_xdata()[0] for line in panels[TITLE].lines if str(line.get_label()).startswith("bare")}
    assert floors == {10.0, 5.0}
    with pytest.raises(ValueError, match="no contender"):
        figure([MISSING])


def test_agreement_counts_what_differs_on_the_images_both_have():
    predicted = torch.zeros(4, 3, dtype=torch.int16)
    first = {"predicted": predicted, "counts": torch.zeros(3, 5)}
    second = {"predicted": predicted.clone()[:, :2], "counts": torch.zeros(2, 5)}
    second["predicted"][3, 0] = 1
    second["counts"][0, 1] = 1
    found = agreement(first, second, labels=torch.zeros(3))
    assert found == {"images": 2, "predictions_differ": 1 / 8, "counts_differ": 1 / 10, "accuracy_gap": 0.5}


def test_a_run_goes_on_past_a_peer_that_is_missing(draw_work, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_rows, "work_config", lambda *given: None)
    monkeypatch.setattr(rate_rows, "make_work", lambda cfg: draw_work())
    absent = Contender("absent", "respike.bench.peers.nobody.loop")
    monkeypatch.setattr(rate_rows, "CONTENDERS", [absent, *named(CONTENDERS, ["ours, float"])])
    plan = Plan(out=tmp_path, images=20, repeats=1, threads=1, works=("fc",), floor_rows=100, only=("absent", "ours"))
    found = {row["name"]: row for row in run(plan, tell=lambda line: None)}
    assert found["absent"]["reason"].startswith("not installed: respike.bench.peers.nobody")
    assert found["ours, float32"]["runs"] == 1
    assert found["ours, float32"]["share_fp32"] == pytest.approx(
        found["bare products"]["fp32"] / found["ours, float32"]["seconds_per_10000"]
    )
    same = found["ours, float32 / ours, float64"]
    assert same["counts_differ"] < 0.2 and same["images"] == 20


def test_quick_is_a_reduced_plan_and_typed_numbers_win():
    plan = parse(["--quick", "--images", "50", "--only", "ours", "training", "--threads", "2"])
    assert (plan.images, plan.repeats, plan.only, plan.threads) == (50, 1, ("ours", "training"), 2)
    assert plan.reduced and not parse([]).reduced
    with pytest.raises(SystemExit):
        main(["--images", "0"])
