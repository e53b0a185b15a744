"""The page: well-formed, self-contained, every link leads somewhere, and a failure leaves the earlier one whole."""

import math
import re
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import pytest

from respike.errors import InputError
from respike.report import judge, load_runs, write_report

SKIPPED = {"<later>": "no data & no time"}
TITLE = "Papers <reproduced> & more"
GROUPS = [
    {"title": "Fully connected", "runs": ["diehl_fc", "diehl_fc_raw"], "text": "Weights are <scaled>."},
    {"title": "Convolutional", "runs": ["diehl_cnn", "diehl_cnn_quick", "never_ran"]},
    {"title": "Nothing ran", "runs": ["never_ran"]},
]


@pytest.fixture(scope="module")
def report(many_runs):
    """The folder of a report on five runs and a skipped row, some names full of markup; only to be read."""
    write_report(load_runs([many_runs]), SKIPPED, many_runs.parent / "a report", TITLE, GROUPS)
    return many_runs.parent / "a report"


@pytest.fixture
def small_report(make_run, tmp_path):
    """The folder of a report on one run, to be written over."""
    write_report(load_runs([make_run("first")]), {}, tmp_path / "report", "First")
    return tmp_path / "report"


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def page_of(folder) -> ElementTree.Element:
    """The page, without the places where a word may be broken."""
    return ElementTree.fromstring((folder / "index.html").read_text(encoding="utf-8").replace("<wbr/>", ""))


def text_of(element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def addresses(page) -> list[str]:
    return [e.get(key) for e in page.iter() for key in ("href", "src") if e.get(key)]


def test_the_page_is_well_formed_and_names_are_escaped(report):
    page = page_of(report)
    text = text_of(page)
    for name in (TITLE, "own <net> | a&b", "<later>", "no data & no time", "Weights are <scaled>."):
        assert name in text
    assert not page.findall(".//net") and not page.findall(".//later")


def test_every_address_in_the_page_is_relative_and_leads_somewhere(report):
    page = page_of(report)
    anchors = {element.get("id") for element in page.iter() if element.get("id")}
    assert len(addresses(page)) > 20
    for address in addresses(page):
        parts = urlparse(address)
        assert not parts.scheme and not parts.netloc and not parts.path.startswith("/")
        assert (report / unquote(parts.path)).exists()
        assert not parts.fragment or parts.fragment in anchors


def test_every_address_in_the_markdown_leads_somewhere(report):
    text = (report / "REPORT.md").read_text(encoding="utf-8")
    found = re.findall(r"(?<!\\)\]\(([^)]+)\)", text)
    assert len(found) > 20
    for address in found:
        assert (report / unquote(address)).exists()


def test_the_page_needs_no_network_and_no_script(report):
    page = page_of(report)
    assert not page.findall(".//script") and not page.findall(".//link")
    assert "url(" not in (report / "index.html").read_text() and "http" not in (report / "index.html").read_text()


def test_tables_have_a_cell_for_every_heading(report):
    tables = page_of(report).findall(".//table")
    assert len(tables) == 2
    for table in tables:
        headings = len(table.findall("thead/tr/th"))
        assert {len(line.findall("td")) for line in table.findall("tbody/tr")} == {headings}


def test_a_reduced_run_wears_no_verdict(report):
    line = next(row for row in page_of(report).iter("tr") if "diehl_cnn_quick" in text_of(row))
    assert {span.get("class") for span in line.iter("span")} >= {"pill reduced"}
    assert "(99.10 %)" in text_of(line) and "1 of 5 epochs" in text_of(line)
    assert not re.search("surpassed|reproduced|below", text_of(line))


def test_headline_counts_the_verdicts_and_says_when_and_where(report):
    for text in (text_of(page_of(report)), (report / "REPORT.md").read_text(encoding="utf-8")):
        assert "2 rows compared with a published number: 1 reproduced, 1 below. 1 row reduced and not" in text
        assert "Run 2025-11-21 on Example CPU @ 2.0GHz from commit 0123456789." in text
        assert "4.6 / 0.9 pJ" in text


def test_a_figure_per_group_that_ran_and_one_of_rates_per_run(report):
    pictures = {path.name for path in report.glob("*.png")}
    rates = ["diehl_cnn", "diehl_cnn_quick", "diehl_fc", "diehl_fc_raw", "own-net-a-b"]
    groups = {"fig-fully-connected.png", "fig-convolutional.png"}
    assert pictures == groups | {f"fig-rates-{name}.png" for name in rates}
    assert [h.text for h in page_of(report).iter("h2")][1:3] == ["Fully connected", "Convolutional"]


def test_a_later_report_replaces_the_earlier_one_and_spares_other_files(small_report, make_run):
    for name in ("mine.png", "fig-mine.png"):
        (small_report / name).write_bytes(b"a person's own picture")
    other = load_runs([make_run("second", paper={"title": "Other net"})])
    write_report(other, {}, small_report, "Second")
    pictures = {"mine.png", "fig-mine.png", "fig-other-net.png", "fig-rates-second.png"}
    assert contents(small_report).keys() == pictures | {"index.html", "REPORT.md", "results.csv"}


def test_a_failure_leaves_the_earlier_report_whole_and_nothing_beside(small_report, make_run, monkeypatch):
    other = load_runs([make_run("second")])
    before, beside = contents(small_report), sorted(small_report.parent.iterdir())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("respike.report.page.render", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(other, {}, small_report, "Second")
    assert contents(small_report) == before
    assert sorted(small_report.parent.iterdir()) == beside


def test_the_same_runs_give_the_same_report(small_report, tmp_path):
    before = contents(small_report)
    write_report(load_runs([tmp_path / "runs/first"]), {}, small_report, "First")
    assert contents(small_report) == before


def test_runs_inside_the_report_folder_are_linked_too(make_run, tmp_path):
    write_report(load_runs([make_run("a")]), {}, tmp_path / "runs", "Inside")
    assert "a/metrics.json" in addresses(page_of(tmp_path / "runs"))


def test_a_report_without_runs_still_says_what_was_skipped(tmp_path):
    write_report(load_runs([]), {"resnet19": "needs a GPU"}, tmp_path / "out", "Empty")
    text = text_of(page_of(tmp_path / "out"))
    assert "1 row skipped." in text and "needs a GPU" in text


def test_runs_without_curve_rates_or_provenance_still_have_a_page(make_run, tmp_path):
    path = make_run("bare", config={"convert": None, "recipe": None}, metrics={"snn/rate/input": None})
    (path / "curves.csv").unlink()
    (path / "metrics.json").write_text('{"data": "MNIST", "reduced": "", "test_images": 5, "snn/test_acc": 0.98}')
    (path / "provenance.json").write_text("{}")
    write_report(load_runs([path]), {}, tmp_path / "out", "Bare")
    assert "no accuracy over time was recorded" in text_of(page_of(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_report(load_runs([]), {}, tmp_path / "out", "T")


def test_one_bad_run_costs_its_row_and_never_the_report(make_run, tmp_path):
    make_run("good")
    make_run("title", paper={"title": r"<b>$\frac{$</b>, $x^", "source": "$"}, config={"name": r"$\frac{"})
    make_run("paper", config={"paper": "abc"})
    make_run("number", paper={"published": {"snn/test_acc": "abc"}})
    make_run("nan", metrics={"snn/test_acc": math.nan, "ann/test_acc": math.inf})
    make_run("curve", curve=[[1, 1.0, math.nan, math.nan, 2.0], [2, math.inf, math.nan, 0.1, 2.0]])
    (make_run("binary") / "curves.csv").write_bytes(bytes(range(256)) * 9)
    (make_run("metrics") / "metrics.json").write_bytes(b"\xff\x00")
    (make_run("budget", config={"budget_min": "soon"}) / "provenance.json").write_text(
        '{"started": 5, "time": {"fit": "x"}}'
    )
    for name, accuracy, trained in (("untested", None, False), ("beyond", 1.5, False), ("tuned", 0.9, True)):
        config = {"name": name, "start": "exact_fc", "train": trained, "model": {"_target_": "spike.Times"}}
        own = {"title": "spike times, levels, x", "published": {}}
        metrics = {"snn/test_acc": accuracy}
        make_run(name, config=config, paper=own, metrics=metrics, curve=[[1, 1.0, 0.5, 1.0, 0]])
    rows = judge(load_runs([tmp_path / "runs"]))
    assert {name for name, run in rows.iterrows() if run["failure"]} == {"number", "nan", "binary", "metrics", "budget"}
    write_report(load_runs([tmp_path / "runs"]), {}, tmp_path / "out", "Some are bad")
    text = text_of(page_of(tmp_path / "out"))
    for name, run in rows.iterrows():
        assert str(name) in text and " ".join(run["failure"].split()) in text
    assert r"<b>$\frac{$</b>" in text and "reproduced" in text


def test_at_400_pixels_a_row_is_a_card_with_its_verdict_below_its_name(report):
    page = page_of(report)
    table = page.find(".//table[@class='cards']")
    for row in table.findall("tbody/tr"):
        labels = [cell.get("data-label") for cell in row]
        assert not {"metric", "difference (points)"} & set(labels)  # below the numbers that they belong to
        assert labels[0] == "row" and [cell for cell in row if "verdict" in (cell.get("class") or "").split()]
    css = page.find(".//style").text
    assert "td.verdict { display: block; order: -1; }" in css
