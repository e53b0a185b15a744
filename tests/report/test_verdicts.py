"""The boundaries of the verdict, and what a reduced run never gets."""

import math
import re
from pathlib import Path

import pytest

from respike.report import judge, load_runs, to_markdown, to_text
from respike.report.columns import DETAILS, RESULTS
from respike.report.verdicts import (
    BELOW,
    CHANGED,
    OTHER_DATA,
    OTHER_RECIPE,
    OWN,
    REDUCED,
    REPRODUCED,
    SKIPPED,
    SURPASSED,
    UNPUBLISHED,
)

REFERENCE = Path(__file__).parents[2] / "outputs" / "reference" / "runs"


def judged(*paths):
    return judge(load_runs(paths))


@pytest.fixture
def row_of(make_run):
    """row_of(ours=, published=, tolerance=, **metrics) -> the judged row of one run, its headline snn/test_acc."""

    def build(ours, published, tolerance=None, **metrics):
        paper = {"published": {"snn/test_acc": published}, "tolerance": tolerance}
        return judged(make_run("a", paper=paper, metrics={"snn/test_acc": ours, **metrics})).iloc[0]

    return build


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(0.0, BELOW), (0.9799, BELOW), (0.98, REPRODUCED), (0.985, REPRODUCED), (0.99, REPRODUCED), (0.9901, SURPASSED)],
)
def test_verdict_with_a_given_tolerance(row_of, ours, expected):
    row = row_of(ours, 0.985, tolerance=0.005)
    assert row["verdict"] == expected
    assert row["difference"] == pytest.approx(ours - 0.985)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_difference_of_exactly_the_tolerance_reproduces(row_of, step):
    # 0.99 - 0.98 is a little more than 0.01 in binary.
    assert row_of(0.98 + step * 0.01, 0.98, tolerance=0.01)["verdict"] == REPRODUCED


def test_without_a_tolerance_two_standard_errors_of_the_difference_decide(row_of):
    ours = 0.986 - 0.0034
    row = row_of(ours, 0.986)
    variances = [0.986 * 0.014 / 10000, ours * (1 - ours) / 10000]
    assert row["tolerance"] == pytest.approx(2 * math.sqrt(sum(variances)))
    assert row["verdict"] == REPRODUCED


def test_the_published_standard_error_of_a_mean_over_seeds_is_used(make_run):
    row = judged(make_run("a", paper={"standard_error": 0.003})).iloc[0]
    assert row["tolerance"] == pytest.approx(2 * math.hypot(0.003, math.sqrt(0.9852 * 0.0148 / 10000)))


@pytest.mark.parametrize(("ours", "verdict"), [(0.9999, BELOW), (1.0, REPRODUCED)])
def test_an_exact_claim_has_no_tolerance(make_run, ours, verdict):
    claim = {"headline": "snn/agreement", "published": {"snn/agreement": 1.0}, "tolerance": 0.0}
    row = judged(make_run("a", paper=claim, metrics={"snn/agreement": ours})).iloc[0]
    assert row["verdict"] == verdict and row["tolerance"] == 0


def test_fewer_test_images_allow_a_larger_difference(row_of):
    assert row_of(0.98, 0.986, test_images=1000)["verdict"] == REPRODUCED


def test_beyond_two_standard_errors_is_below_or_surpassed(make_run):
    paths = [make_run(name, metrics={"snn/test_acc": ours}) for name, ours in {"low": 0.982, "high": 0.99}.items()]
    assert list(judged(*paths)["verdict"]) == [BELOW, SURPASSED]


@pytest.mark.parametrize("ours", [0.1, 0.986, 1.0])
def test_a_reduced_run_is_never_judged_whatever_it_reached(row_of, ours):
    row = row_of(ours, 0.986, reduced="1 of 15 epochs")
    assert row["verdict"] == REDUCED
    assert math.isnan(row["difference"]) and math.isnan(row["tolerance"])
    cells = {column.key: column.cell(row) for column in RESULTS + DETAILS}
    assert cells["published"] == "(98.60 %)" == cells["snn_published"]
    assert cells["departs"] == "reduced: 1 of 15 epochs" and cells["difference"] == "–"
    for rendered in (to_markdown(row.to_frame().T), to_text(row.to_frame().T)):
        assert not re.search("surpassed|reproduced|below", rendered)


def test_a_reduced_run_without_a_published_number_stays_reduced(make_run):
    run = make_run("a", config={"paper": None}, metrics={"reduced": "100 images"})
    assert judged(run)["verdict"]["a"] == REDUCED


def test_a_run_with_changed_settings_is_not_judged(row_of):
    row = row_of(0.986, 0.986, differs="neuron.threshold=2")
    assert row["verdict"] == CHANGED and math.isnan(row["difference"])
    assert row["departs"] == ("settings: neuron.threshold=2",)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"other_data": "rendered digits"}, OTHER_DATA),
        ({"other_data": "rendered digits", "differs": "convert=no_norm"}, OTHER_DATA),
        ({"differs": "trainer.max_epochs=100", "other_recipe": "recipe ours"}, CHANGED),
        ({"differs": "paper.published.snn/test_acc=0.986"}, OWN),
        ({"differs": "encode.max_rate=1; paper: 6 settings"}, OWN),
    ],
)
def test_what_is_not_the_papers_is_not_held_against_it(row_of, facts, expected):
    row = row_of(0.999, 0.986, **facts)
    assert row["verdict"] == expected and math.isnan(row["difference"])
    shown = RESULTS[2].cell(row)
    assert shown == ("–" if expected == OWN else "(98.60 %)")


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, "98.62 %"),
        ({"other_recipe": "recipe ours"}, "(98.62 %)"),
        ({"differs": "convert.q=1", "other_data": "Fashion-MNIST"}, "(98.62 %)"),
    ],
)
def test_the_number_of_the_relu_network_stands_in_parentheses_where_the_row_departs(make_run, facts, shown):
    """Also where no number of the spiking network is published."""
    row = judged(make_run("a", paper={"published": {"ann/test_acc": 0.9862}}, metrics=facts)).iloc[0]
    cells = {column.key: column.cell(row) for column in (*RESULTS, *DETAILS)}
    assert row["verdict"] == UNPUBLISHED and cells["ann_published"] == shown
    assert all(fact in cells["departs"] for fact in facts.values())


@pytest.mark.parametrize(("ours", "verdict"), [(0.99, SURPASSED), (0.986, REPRODUCED), (0.98, BELOW)])
def test_with_another_recipe_the_verdict_says_so(row_of, ours, verdict):
    row = row_of(ours, 0.986, other_recipe="recipe ours")
    assert row["verdict"] == OTHER_RECIPE[verdict] and row["verdict"] not in (SURPASSED, REPRODUCED, BELOW)
    assert row["departs"] == ("recipe ours",) and row["difference"] == pytest.approx(ours - 0.986)


def test_committed_digits_surpass_nothing_and_no_variant_is_held_against_the_paper():
    rows = judged(REFERENCE)
    assert set(rows["verdict"][rows["data"] == "rendered digits"]) == {OTHER_DATA}
    compared = rows[rows["verdict"].isin([SURPASSED, REPRODUCED, BELOW])]
    assert (
        {"diehl_fc", "diehl_cnn_published"}
        <= set(compared.index)
        <= {"diehl_fc", "diehl_cnn_published", "stbp_resnet19"}
    )
    assert {*compared["departs"]} <= {()}


@pytest.mark.parametrize("paper", [None, {"title": "T", "published": {}}, {"published": {"snn/test_acc": None}}])
def test_without_a_published_number_there_is_none_to_meet(make_run, paper):
    row = judged(make_run("a", config={"paper": paper})).iloc[0]
    assert (row["verdict"], row["published"], row["ours"]) == (UNPUBLISHED, None, 0.9852)
    assert math.isnan(row["difference"])


def test_a_run_without_a_spiking_net_is_judged_on_its_own_headline(make_run):
    row = judged(make_run("a", paper={"headline": "ann/test_acc"}, metrics={"snn/test_acc": None})).iloc[0]
    assert (row["published"], row["ours"], row["verdict"]) == (0.9862, 0.9865, REPRODUCED)


@pytest.mark.parametrize(
    ("paper", "metrics", "said"),
    [
        ({"headline": "snn/acc_drop"}, {}, "expected one of ann/test_acc"),
        ({"published": {"snn/test_acc": 98.6}}, {}, "expected a fraction"),
        ({"published": {"snn/test_acc": "about 0.98"}}, {}, "expected a fraction"),
        ({"tolerance": 1.5}, {}, "paper.tolerance is 1.5"),
        ({}, {"snn/test_acc": None}, "lacks; set paper.headline (measured: ann/test_acc"),
        ({}, {"test_images": 0}, "test_images is 0"),
        ({}, {"test_images": math.nan}, "test_images is nan"),
        ({"curve": "rising"}, {}, "paper.curve is 'rising'"),
        ({"curve": [1, 2]}, {}, "paper.curve is"),
    ],
)
def test_what_cannot_be_judged_costs_its_row_and_says_why(make_run, paper, metrics, said):
    rows = judged(make_run("a", paper=paper, metrics=metrics), make_run("b"))
    assert said in rows["failure"]["a"] and "\n" not in rows["failure"]["a"] and rows["verdict"]["a"] == SKIPPED
    assert rows["verdict"]["b"] == REPRODUCED and rows["failure"]["b"] == ""
    assert rows["budget_min"]["a"] is None and not rows["over_budget"]["a"]


def test_a_run_longer_than_its_budget_says_so(row_of):
    assert row_of(0.98, 0.98, **{"time/total_s": 1200.1})["over_budget"]


@pytest.mark.parametrize(("cached", "over"), [(1.0, False), (0.0, True)])
def test_a_training_of_an_earlier_run_is_not_in_the_budget(row_of, cached, over):
    spent = {"time/total_s": 1300.0, "time/fit_s": 200.0, "time/fit_was_cached": cached}
    assert row_of(0.98, 0.98, **spent)["over_budget"] == over


@pytest.mark.parametrize(
    ("title", "convert", "said"),
    [
        ("FC, unnormalized, 200 Hz", "data_norm", "FC, data-normalized, 1000 Hz"),
        ("FC, data-normalized", "no_norm", "FC, unnormalized"),
        ("FC, data-normalized", "data_norm", "FC, data-normalized"),
        ("FC, data-normalized", "percentile_norm", "FC, percentile-normalized"),
        ("VGG, spike times", "exact_map", "VGG, spike times"),
    ],
)
def test_a_title_names_the_conversion_and_the_rate_that_were_used(make_run, title, convert, said):
    config = {"convert": {"_target_": f"respike.convert.rate.normalize.{convert}"}}
    assert judged(make_run("a", config=config, paper={"title": title}))["method"]["a"] == said
