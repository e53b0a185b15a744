"""The verdict's boundaries, what a reduced run may never get, and that every rendering holds every row."""

import csv
import math
import re

import pytest

from respike.errors import InputError
from respike.report.collect import find_runs, load_run
from respike.report.columns import DETAILS, MAIN, count, duration, percent, points, settling
from respike.report.render import to_csv, to_markdown, to_text
from respike.report.table import BELOW, REDUCED, REPRODUCED, SKIPPED, SURPASSED, UNPUBLISHED, rows, two_standard_errors

METRICS = ("ann/test_acc", "snn/test_acc", "snn/agreement")


@pytest.fixture
def row_of(make_run):
    """row_of(ours=, published=, tolerance=, **metrics) -> the row of one run judged on snn/test_acc."""

    def build(ours, published, tolerance=None, **metrics):
        paper = {"published": {"snn/test_acc": published}, "tolerance": tolerance}
        return rows([load_run(make_run("a", paper=paper, metrics={"snn/test_acc": ours, **metrics}))], {})[0]

    return build


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(0.0, BELOW), (0.9799, BELOW), (0.98, REPRODUCED), (0.985, REPRODUCED), (0.99, REPRODUCED), (0.9901, SURPASSED)],
)
def test_verdict_with_a_given_tolerance(row_of, ours, expected):
    row = row_of(ours, 0.985, tolerance=0.005)
    assert row.verdict == expected
    assert row.difference == pytest.approx(ours - 0.985)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_difference_of_exactly_the_tolerance_reproduces(row_of, step):
    # 0.99 - 0.98 is a little more than 0.01 in binary.
    assert row_of(0.98 + step * 0.01, 0.98, tolerance=0.01).verdict == REPRODUCED


def test_without_a_tolerance_two_standard_errors_of_the_published_number_decide(row_of):
    row = row_of(0.986 - 0.0023, 0.986)
    assert row.tolerance == pytest.approx(2 * math.sqrt(0.986 * 0.014 / 10000)) == two_standard_errors(0.986, 10000)
    assert row.verdict == REPRODUCED


def test_fewer_test_images_allow_a_larger_difference(row_of):
    assert row_of(0.98, 0.986, test_images=1000).verdict == REPRODUCED


def test_beyond_two_standard_errors_is_below_or_surpassed(make_run):
    def judged(name, ours):
        return rows([load_run(make_run(name, metrics={"snn/test_acc": ours}))], {})[0].verdict

    assert [judged("low", 0.9836), judged("high", 0.9884)] == [BELOW, SURPASSED]


@pytest.mark.parametrize("ours", [0.1, 0.986, 1.0])
def test_a_reduced_run_is_never_judged_whatever_it_reached(row_of, ours):
    row = row_of(ours, 0.986, reduced="1 of 15 epochs")
    assert row.verdict == REDUCED
    assert row.difference is None and row.tolerance is None
    cells = {column.key: column.cell(row) for column in MAIN + DETAILS}
    assert cells["published"] == "(98.60 %)" == cells["snn_published"]
    assert cells["size"] == "reduced: 1 of 15 epochs" and cells["difference"] == "–"
    for rendered in (to_markdown([row]), to_text([row])):
        assert not re.search("surpassed|reproduced|below", rendered)


def test_a_reduced_run_without_a_published_number_stays_reduced(make_run):
    run = load_run(make_run("a", config={"paper": None}, metrics={"reduced": "100 images"}))
    assert rows([run], {})[0].verdict == REDUCED


@pytest.mark.parametrize("paper", [None, {"title": "T", "published": {}}, {"published": {"snn/test_acc": None}}])
def test_without_a_published_number_there_is_none_to_meet(make_run, paper):
    row = rows([load_run(make_run("a", config={"paper": paper}))], {})[0]
    assert (row.verdict, row.published, row.difference, row.ours) == (UNPUBLISHED, None, None, 0.9852)


def test_a_run_without_a_spiking_net_is_judged_on_its_own_headline(make_run):
    run = load_run(make_run("a", paper={"headline": "ann/test_acc"}, metrics={"snn/test_acc": None}))
    row = rows([run], {})[0]
    assert (row.published, row.ours, row.verdict) == (0.9862, 0.9865, REPRODUCED)


@pytest.mark.parametrize(
    ("paper", "metrics", "said"),
    [
        ({"headline": "snn/acc_drop"}, {}, "expected one of ann/test_acc"),
        ({"published": {"snn/test_acc": 98.6}}, {}, "expected a fraction"),
        ({"published": {"snn/test_acc": "about 0.98"}}, {}, "expected a fraction"),
        ({"tolerance": 1.5}, {}, "paper.tolerance is 1.5"),
        ({}, {"snn/test_acc": None}, "lacks; set paper.headline (measured: ann/test_acc"),
        ({}, {"test_images": 0}, "test_images 0"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(make_run, paper, metrics, said):
    with pytest.raises(InputError) as caught:
        rows([load_run(make_run("a", paper=paper, metrics=metrics))], {})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_skipped_rows_stand_in_every_table_with_their_reason(make_run):
    made = rows([load_run(make_run("a"))], {"resnet19": "needs a GPU"})
    assert [row.verdict for row in made] == [REPRODUCED, SKIPPED]
    for rendered in (to_markdown(made), to_text(made)):
        assert "resnet19" in rendered and "needs a GPU" in rendered


def test_runs_of_one_name_get_rows_of_different_names(make_run):
    runs = [load_run(make_run(path, config={"name": "a"})) for path in ("x/1", "x/2", "y/2", "b")]
    assert [row.name for row in rows(runs, {})] == ["a (1)", "a (x/2)", "a (y/2)", "a (b)"]
    with pytest.raises(InputError, match="given twice"):
        rows([runs[0], runs[0]], {})


def test_csv_round_trip(many_runs, tmp_path):
    made = rows(find_runs(many_runs), {"later": 'no "data", yet'})
    to_csv(made, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert [record["row"] for record in records] == [row.name for row in made]
    for record, row in zip(records, made, strict=True):
        assert (record["verdict"], record["reduced"], record["skipped"]) == (row.verdict, row.reduced, row.skipped)
        for field, value in {"published": row.published, "difference": row.difference, "ours": row.ours}.items():
            assert record[field] == ("" if value is None else repr(value))
        for metric in METRICS:
            assert record[metric] == ("" if row.run is None else repr(row.number(metric)))


def test_markdown_has_the_same_number_of_cells_in_every_line(many_runs):
    made = rows(find_runs(many_runs), {"a|b\nc": "because | of\nthis"})
    for columns in (MAIN, DETAILS):
        lines = to_markdown(made, columns).splitlines()
        assert len(lines) == len(made) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(columns) + 1}


def test_markdown_shows_a_name_as_it_is(make_run):
    table = to_markdown(rows([], {"<b>|`x`*": "&"}))
    assert r"&lt;b&gt;\|\`x\`\*" in table and "skipped: &amp;" in table


@pytest.mark.parametrize("width", [115, 120, 140, 200])
def test_text_fits_the_terminal_and_loses_no_word(many_runs, width):
    made = rows(find_runs(many_runs), {"later": "no data"})
    text = to_text(made, width)
    assert max(map(len, text.splitlines())) <= width
    pieces = set(re.split(r"\s+|(?<=[-_])", text))
    for row in made:
        assert set(re.split(r"\s+|(?<=[-_])", f"{row.name} {row.method} {row.verdict}")) - {""} <= pieces
    assert "diehl_cnn_quick is reduced: 1 of 5 epochs; 1000 test images" in text


def test_numbers_for_people(row_of):
    assert [percent(0.986), points(-0.0013), points(-1e-9), points(None)] == ["98.60 %", "-0.13", "+0.00", "–"]
    assert [count(22612.4), count(0.0), count(3.14159), count(None)] == ["22,612", "0", "3.14", "–"]
    assert [duration(s) for s in (1.44, 48.2, 210, 7560)] == ["1.4 s", "48 s", "3.5 min", "2.1 h"]
    row = row_of(0.98, 0.98, **{"snn/steps_to_1pct": 1, "snn/time_to_1pct_ms": 0.5})
    assert settling(row).replace("\u00a0", " ") == "1 step, 0.5 ms"


def test_a_run_longer_than_its_budget_says_so(row_of):
    assert row_of(0.98, 0.98, **{"time/total_s": 1200.1}).over_budget
