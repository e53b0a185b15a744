"""The tables and the figure of rows, including failed ones."""

from itertools import pairwise

import pandas as pd
import pytest

from respike.bench import rows as rows_module
from respike.bench.__main__ import main, parse
from respike.bench.figure import figure
from respike.bench.plan import CNN_CONTENDERS, CONTENDERS, Contender, Plan, named
from respike.bench.rows import run
from respike.bench.table import COLUMNS, facts_of, markdown, to_frame
from respike.system.files import read_csv

TITLE = "FC 784-1200-1200-10, 40 steps"
COMMON = {"workload": "diehl_fc", "title": TITLE, "steps": 40, "reduced": ""}
TIMED = {
    "part": "simulate", "name": "ours, float32", "arithmetic": "float32", "fires": ">=", "images": 500, "batch": None,
    "runs": 3, "seconds": 1.0, "seconds_min": 0.9, "seconds_max": 1.5, "seconds_per_10000": 20.0,
    "images_per_second": 500.0, "accuracy": 0.9861, "allocator": "freed memory is kept", "peak_mib": 700.0,
    "share_fp32": 0.5, "share_bf16": 0.25,
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


def test_the_csv_has_every_row_and_the_reason_of_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr("respike.bench.__main__.run", lambda plan, report: iter(ROWS))
    assert main(["--out", str(tmp_path)]) == 0
    read = read_csv(tmp_path / "bench.csv")
    assert list(read.columns) == COLUMNS and list(read.name) == [row["name"] for row in ROWS]
    assert read.accuracy[1] == 0.9861
    assert read.reason[3] == "not installed: norse" and pd.isna(read.seconds[3])
    assert {path.name for path in tmp_path.iterdir()} == {"bench.csv", "bench.md", "bench.png"}


def test_the_page_has_time_accuracy_range_floor_and_reasons():
    page = markdown(to_frame(ROWS), FACTS)
    (ours,) = (line for line in page.splitlines() if line.startswith("| ours, float32"))
    for said in ("20", "3: 18 to 30 s", "500", "98.61 %", "own", "≥", "2.00 | 4.00", "700 MiB"):
        assert said in ours
    assert "\n\nNot measured (not installed: norse): Norse.\n" in page
    assert "\n\nNot measured (RuntimeError: no): ours, Lightning.\n" in page
    assert "| Norse | 20" in page and page.count("| Norse |") == 1 and "| ours, Lightning |" not in page
    assert page.split("### Training\n")[1].startswith(
        "\nNot measured (RuntimeError: no): ours, Lightning.\n"
    )  # no table
    assert "| ours, fused | 50.0 | 40.0 to 100.0 | 8 | 16 | float32 | 12.2 MiB | 800 MiB |" in page
    assert "-0.20" in page and "95.7 million" in page and "a processor, 2 threads" in page
    assert "the same settings in every process: freed memory is kept." in page
    assert "Reduced" not in page
    assert "**Reduced, not to be quoted:** 100 of 10,000" in markdown(
        to_frame([TIMED | {"reduced": "100 of 10,000"}]), FACTS
    )


def test_the_accuracy_of_fewer_images_is_not_beside_that_of_all():
    """Rows that are too slow are timed on the first images, which are no sample of all."""
    some = TIMED | {"name": "slow", "images": 100, "accuracy": 0.97}
    lines = markdown(to_frame([TIMED, some]), FACTS).splitlines()
    assert "98.61 %" in next(line for line in lines if line.startswith("| ours, float32"))
    assert "97.00 %" not in next(line for line in lines if line.startswith("| slow"))


def test_every_table_is_rectangular():
    lines = [line.replace("\\|", "") for line in markdown(to_frame(ROWS), FACTS).splitlines()]
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")


def test_the_figure_has_a_panel_per_work_and_a_dot_per_timed_contender():
    drawn = figure(to_frame([*ROWS, TIMED | {"title": "CNN, 41 steps"}]))
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes}
    assert {TITLE, "CNN, 41 steps"} <= set(panels)
    assert [label.get_text() for label in panels[TITLE].get_yticklabels()] == ["ours, float32", "Norse"]
    assert panels[TITLE].get_xscale() == "log"
    floors = {line.get_xdata()[0] for line in panels[TITLE].lines if str(line.get_label()).startswith("bare")}
    assert floors == {10.0, 5.0}
    with pytest.raises(ValueError, match="no contender"):
        figure(to_frame([MISSING]))


def test_a_run_continues_after_a_peer_that_is_missing(draw_workload, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "experiment_config", lambda *given: None)
    monkeypatch.setattr(rows_module, "make_workload", lambda cfg: draw_workload())
    absent = Contender("absent", "respike.bench.peers.nobody.loop")
    monkeypatch.setattr(rows_module, "CONTENDERS", [absent, *named(CONTENDERS, ["ours, float"])])
    plan = Plan(
        out=tmp_path, images=20, repeats=1, threads=1, workloads=("fc",), floor_rows=100, only=("absent", "ours")
    )
    found = {row["name"]: row for row in run(plan, report=lambda line: None)}
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
    assert plan.out.as_posix() == "outputs/bench/ours-training" and parse([]).out.as_posix() == "outputs/bench"
    with pytest.raises(SystemExit):
        main(["--images", "0"])


def test_only_selects_parts_and_names():
    def parts(*only):
        plan = Plan(only=only)
        chosen = [part for part in ("rate", "cost", "training", "exact", "direct") if plan.includes(part)]
        cnns = [name for name in plan.cnns if plan.includes(name)]
        return chosen, [row.name for row in plan.contenders(CONTENDERS)] if plan.includes("rate") else [], cnns

    every = [row.name for row in CONTENDERS]
    networks = ["resnet20", "vgg16", "resnet18"]
    assert parts() == (["rate", "cost", "training", "exact", "direct"], every, networks)
    assert parts("rate") == (["rate", "cost", "training"], every, [])
    assert parts("exact") == (["exact"], [], []) and parts("direct", "exact") == (["exact", "direct"], [], [])
    assert parts("norse", "training") == (["rate", "training"], ["Norse"], [])
    assert parts("cnn") == ([], [], networks) and parts("vgg16", "spikingjelly") == ([], [], ["vgg16"])
    timed = [(), ("rate",), ("gpu",), ("norse", "training"), ("training",), ("cost", "training")]
    assert [Plan(only=only).times_simulations for only in timed] == [True] * 4 + [False] * 2
    assert parts("resnet20", "cost") == (["cost"], [], ["resnet20"])
    assert parts("gpu") == (["rate"], ["ours, Triton on a GPU"], networks)
    chosen = Plan(only=("vgg16", "spikingjelly")).contenders(CNN_CONTENDERS)
    assert [row.name for row in chosen] == [row.name for row in CNN_CONTENDERS if row.converts]
    assert Plan(only=("resnet18",)).contenders(CNN_CONTENDERS) == CNN_CONTENDERS
