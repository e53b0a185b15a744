"""Measured numbers of README and docs are those of the committed results."""

import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report import load_runs
from respike.report import page as report_page
from respike.report.docs.__main__ import BLOCK, BLOCKS, energy_pages, main, pages, written
from respike.report.docs.reference import Reference, share
from respike.report.publish import write_published
from respike.runs.conf import CONF

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"^<!-- (?:table|text) (\w+) -->$", re.MULTILINE)
NUMBER = re.compile(
    r"(?<![\w-])\d[\d.,]* ?(?:%|points|times (?:as|faster|longer)|MiB\b|(?:s|ms|min|minutes|h|hours)\b(?!-))"
)
GIVEN = {  # settings and definitions; every other number with a unit is published or measured
    "95 %", "100 %", "40 ms", "60 ms", "10 ms",
}  # fmt: skip
PUBLISHED = {  # as the experiments quote them
    match[0]
    for name in ("diehl_fc", "diehl_cnn")
    for match in NUMBER.finditer(OmegaConf.load(CONF / "experiment" / f"{name}.yaml").paper.source)
}


@pytest.fixture(scope="module")
def reference():
    return Reference(ROOT / "outputs" / "reference")


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_a_page_holds_what_the_command_writes(page, reference):
    assert page.read_text(encoding="utf-8") == written(page, reference), "type: make docs"


def test_the_pages_whether_spiking_pays_are_what_the_command_writes(reference):
    found = energy_pages(reference)
    assert set(found) == set((reference.folder / "energy" / "decision").iterdir()), "type: make docs"
    for page, text in found.items():
        assert page.read_text(encoding="utf-8") == text, f"{page}: type make docs"


def test_the_committed_report_is_what_the_command_writes(reference, tmp_path, monkeypatch):
    """Its texts: the figures are left out. Addresses are relative to the folder of the page."""
    monkeypatch.setattr(report_page, "save", lambda figure, path: path.touch())
    monkeypatch.setattr(report_page, "compact", lambda folder: None)
    shutil.copytree(reference.folder / "runs", tmp_path / "runs")
    write_published(tmp_path / "runs", tmp_path)
    for name in ("REPORT.md", "results.csv", "index.html"):
        committed = (reference.folder / name).read_text(encoding="utf-8")
        assert committed == (tmp_path / name).read_text(encoding="utf-8"), (
            f"{name}: type python -m respike.report outputs/reference/runs --out outputs/reference"
        )


def test_every_block_is_closed_and_used():
    texts = [page.read_text(encoding="utf-8") for page in pages(ROOT)]
    named = [name for text in texts for name in MARKER.findall(text)]
    assert named == [match[1] for text in texts for match in BLOCK.findall(text)]
    assert set(named) == set(BLOCKS)


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_no_measured_number_stands_outside_the_blocks(page):
    text = re.sub(r"```.*?```", "", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)
    text = re.sub(r"^    .*$|`[^`]*`", "", text, flags=re.MULTILINE)
    assert "\n## " in text
    assert (
        not {match[0] for match in NUMBER.finditer(text)} - GIVEN - (PUBLISHED if page.name == "README.md" else set())
    )


def test_a_changed_number_is_written_again_and_an_unknown_block_is_named(tmp_path, reference):
    page, right = tmp_path / "page.md", BLOCKS["speed"](reference)
    page.write_text("before\n<!-- text speed -->\n10,000 images take 0.1 s.\n<!-- end -->\nafter\n")
    assert written(page, reference) == f"before\n<!-- text speed -->\n{right}\n<!-- end -->\nafter\n"
    page.write_text("<!-- table speeds -->\n<!-- end -->\n")
    with pytest.raises(InputError, match="block speeds is unknown; there are verdict_counts, results, machines"):
        written(page, reference)
    with pytest.raises(InputError, match="has no run nobody"):
        reference.table(["nobody"], [])


def test_without_results_the_command_says_so(tmp_path, capsys):
    (tmp_path / "README.md").write_text("<!-- table results -->\n<!-- end -->\n")
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_shares_are_rounded_down():
    assert (share(1.0), share(0.9999999), share(0.999999), share(0.5)) == ("100 %", "99.9999 %", "99.9999 %", "50 %")
    assert share(1 - 1e-12) == "99.9999 %"


def test_what_texts_say_of_single_runs(reference):
    """Report, README and recipe: seed 0 of the authors' recipe dies, seed 1 learns slowly, the small CNN learns with seed 2.

    README: the rows take over an hour.
    """
    seeds = load_runs(sorted((reference.folder / "runs").glob("diehl_cnn_authors*")))
    authors = seeds[seeds["cfg.simulate.weight_bits"].isna()].set_index("cfg.seed")["ann/test_acc"]
    largest_class = 0.1135  # of MNIST's test images
    assert authors[0] <= largest_class < authors[1] < 0.95 < authors[[2, 3, 4]].min()
    small = reference.runs.loc["diehl_cnn_small"]
    assert small["cfg.seed"] == 2 and small["cfg.recipe.epochs"] == 5 and small["ann/test_acc"] > 0.95
    long = ["exact_vgg_cifar10_l1", "exact_resnet20_cifar10", "stbp_resnet19"]  # only with ARGS=--long
    rows = reference.runs.drop(long)
    trained = rows["time/fit_s"].dropna().unique().sum()  # each training once: later rows have the time of the first
    assert trained + rows[["time/convert_s", "time/simulate_s"]].sum().sum() > 3600
