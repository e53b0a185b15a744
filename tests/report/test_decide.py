"""Whether spiking pays, on runs whose operations are known: the words, who beats whom, and what is said of older runs."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from respike.metrics.energy import ENDS, MAC_PJ, Baseline, break_even, relu_energy
from respike.metrics.operations import LayerOperations, Operations
from respike.report import load_runs
from respike.report.__main__ import main
from respike.report.columns import DETAILS, NOTHING
from respike.report.decision import Candidate, advice, decisions, default_model, energy_table, energy_verdict
from respike.report.summary import EARLIER, MEMORY_RULE, energy
from respike.report.verdicts import judge
from respike.system.files import write_csv

MODEL = default_model()
LAYERS = (
    LayerOperations("input", 784, spikes=100.0, fires=True),
    LayerOperations("fc1", 600, 470_400, 470_400, 90_000.0, accumulates=1.0, spikes=60.0, fires=True),
    LayerOperations("fc2", 10, 6_000, 6_000, 1_200.0, accumulates=1.0, spikes=3.0, fires=True),
)


def network(share, steps=8):
    """The operations if spikes reach this share of the synapses."""
    layers = (LAYERS[0], *(replace(layer, accumulates=share * layer.macs) for layer in LAYERS[1:]))
    return Operations(layers, steps)


@pytest.fixture
def counted(make_run):
    """counted(name, share, **metrics) -> a finished run with operations.csv."""

    def make(name, share, steps=8, metrics=None, **parts):
        operations = network(share, steps)
        sums = {"snn/synops_per_image": operations.accumulates, "energy/ann_nj": operations.macs * MAC_PJ / 1000}
        known = {"ann/int8_acc": 0.986, "ann/bits_acc": 0.95, **sums, **(metrics or {})}
        run = make_run(name, metrics=known, **parts)
        write_csv(run / "operations.csv", operations.rows())
        return run

    return make


def decided(*runs):
    (decision,) = decisions(load_runs(runs), MODEL)
    return decision


@pytest.mark.parametrize(
    ("share", "begins"),
    [
        (0.01, "Spiking pays: "),
        (0.3, "Spiking pays only against a ReLU network that computes with zeros: "),
        (3.0, "Spiking does not pay: "),
    ],
)
def test_the_verdict_compares_with_int8_dense_and_with_zeros_skipped(counted, share, begins):
    decision = decided(counted("a", share))
    assert energy_verdict(decision, MODEL).startswith(begins)
    best = decision.candidate("a")
    dense, skipping = (decision.candidate(f"ReLU network, int8{more}") for more in ("", ", zeros skipped"))
    cheaper = [all(a < b for a, b in zip(best.energy, other.energy, strict=True)) for other in (dense, skipping)]
    assert cheaper == [share < 3, share < 0.1]


def test_candidates_are_the_relu_networks_and_all_runs_and_the_cheapest_is_the_best(counted):
    decision = decided(counted("many", 2.0), counted("few", 0.5, steps=4, metrics={"snn/test_acc": 0.98}))
    names = [candidate.name for candidate in decision.candidates]
    bits = [f"ReLU network, {b} bits{z}" for b in (4, 3) for z in ("", ", zeros skipped")]  # of 8 and of 4 steps
    int8 = ["ReLU network, fp32", "ReLU network, int8", "ReLU network, int8, zeros skipped"]
    assert sorted(names) == sorted([*int8, *bits, "many", "few"]) and decision.best == "few"
    assert decision.candidate("ReLU network, int8").accuracy == 0.986
    assert "ReLU network, int8, zeros skipped" in decision.dominated(decision.candidate("many"))
    for one in decision.candidates:
        for name in decision.dominated(one):
            other = decision.candidate(name)
            assert other.accuracy >= one.accuracy and other.time <= one.time
            assert all(a <= b for a, b in zip(other.energy, one.energy, strict=True))


def test_runs_of_a_sweep_are_named_by_what_differs_between_them(counted):
    """All have the same name and folders named after every override; a single run, and one that is repeated, keep theirs."""
    jobs = {
        "convert=a,simulate.duration=0.008": {"simulate": {"duration": 0.008}},
        "convert=a,simulate.duration=0.016": {"simulate": {"duration": 0.016}},
        "convert=b,simulate.duration=0.016": {
            "simulate": {"duration": 0.016},
            "convert": {"_target_": "respike.convert.rate.normalize.percentile_norm", "q": 0.99},
        },
    }
    runs = [counted(folder, 0.3, config={"name": "sweep"} | changes) for folder, changes in jobs.items()]
    names = ["data_norm, duration 0.008 s", "data_norm, duration 0.016 s", "percentile, duration 0.016 s"]
    assert list(decided(*runs).measured) == names
    again = counted("again", 0.3, config={"name": "sweep"} | jobs["convert=a,simulate.duration=0.016"])
    alone = counted("alone", 0.3)
    first, *_, last = decided(*runs, again, alone).measured
    assert first == f"sweep, {names[0]}" and last == "alone"
    assert [name for name in decided(*runs, again).measured if "(again)" in name]


def test_a_run_that_is_cheap_because_it_is_wrong_decides_nothing(counted):
    decision = decided(counted("right", 3.0), counted("wrong", 0.01, metrics={"snn/test_acc": 0.3}))
    assert decision.best == "right" and energy_verdict(decision, MODEL).startswith(
        "Spiking does not pay: the cheapest run of those as accurate, right"
    )


def test_a_single_cheap_run_that_is_wrong_is_not_decided(counted):
    """One point below int8 is as accurate, more is not; one that costs more does not pay, however accurate."""
    for accuracy, share, begins in [
        (0.3, 0.01, "Not decided: "),
        (0.977, 0.01, "Spiking pays: "),
        (0.3, 3.0, "Spiking does not pay: "),
    ]:
        said = energy_verdict(decided(counted(f"{accuracy} {share}", share, metrics={"snn/test_acc": accuracy})), MODEL)
        assert said.startswith(begins)
        assert ("68.60 points less accurate" in said) == (begins == "Not decided: ")


def test_without_a_relu_network_it_is_not_decided_unless_spiking_costs_more_at_both_ends(counted):
    decision = decided(counted("a", 0.3))
    zeros = tuple(one for one in decision.candidates if "zeros skipped" not in one.name)
    dense = decision.candidate("ReLU network, int8").energy
    for factors, begins in {
        (
            0.5,
            0.9,
        ): "Not decided: a (98.52 % at 8 steps) costs 0.5 to 0.9 times the energy of a dense int8 ReLU network",
        (
            0.5,
            1.5,
        ): "Not decided: a (98.52 % at 8 steps) costs 0.5 to 1.5 times the energy of a dense int8 ReLU network",
        (1.2, 1.5): "Spiking does not pay: ",
    }.items():
        energy = tuple(factor * end for factor, end in zip(factors, dense, strict=True))
        own = replace(zeros[-1], energy=energy)
        assert energy_verdict(replace(decision, candidates=(*zeros[:-1], own)), MODEL).startswith(begins)


def test_what_is_not_decided_names_the_relu_network_of_as_many_values_where_there_is_one(counted):
    decision = decided(counted("a", 0.3))
    dense, fewer = (decision.candidate(f"ReLU network, {bits}") for bits in ("int8", "4 bits"))
    own = replace(decision.candidate("a"), energy=tuple(end / 2 for end in dense.energy))
    both = energy_verdict(replace(decision, candidates=(dense, fewer, own)), MODEL)
    ratios = dict.fromkeys(f"{ours / theirs:.3g}" for ours, theirs in zip(own.energy, fewer.energy, strict=True))
    assert f", and {' to '.join(sorted(ratios))} times that of one of 4 bits. Neither was trained: " in both
    alone = energy_verdict(replace(decision, candidates=(dense, own)), MODEL)
    assert "bits" not in alone and alone.endswith("It was not trained: its accuracy and its zeros are not known.")


def test_nothing_beats_itself_or_what_was_not_measured():
    one = Candidate("a", True, 0.9, 8, "8 steps", "", (1.0, 2.0))
    assert not one.beats(one) and replace(one, time=4).beats(one) and not one.beats(replace(one, accuracy=math.nan))
    assert not replace(one, time=4, accuracy=0.8).beats(one)


def test_networks_of_one_architecture_that_were_trained_apart_have_a_page_each(counted):
    """And so have tests on other numbers of images: the ReLU networks beside a run are its own."""
    runs = [
        counted("a", 0.3),
        counted("b", 0.3, metrics={"ann/test_acc": 0.91, "ann/int8_acc": 0.9}),
        counted("c", 0.3, metrics={"test_images": 10}),
        counted("d", 0.5),
    ]
    found = decisions(load_runs(runs), MODEL)
    assert [list(one.measured) for one in found] == [["a", "d"], ["b"], ["c"]]
    assert all(one.title == found[0].title for one in found)
    assert [one.candidate("ReLU network, int8").accuracy for one in found] == [0.986, 0.9, 0.986]


def test_the_advice_says_what_a_network_of_as_many_values_would_cost(counted):
    decision = decided(counted("a", 3.0))
    (said,) = (line for line in advice(decision, MODEL) if line.startswith("A dense ReLU network of 4 bits"))
    assert "the energy of a (95.00 %)" in said


@pytest.mark.parametrize(
    ("levels", "begins"), [(None, "It would break even with int8 at "), (4, "It costs less than int8")]
)
def test_spike_times_break_even_at_no_more_than_a_spike_per_neuron(counted, levels, begins):
    run = counted("a", 0.3, None, metrics={"ttfs/latency": 3.0})
    operations = replace(network(0.3, None), levels=levels)
    write_csv(run / "operations.csv", operations.rows())
    limits = [break_even(MODEL, operations, Baseline("int8", 8), end) for end in ENDS]
    (line,) = (line for line in advice(decided(run), MODEL) if line.startswith(begins))
    assert ("at any number of spikes, at most one per neuron" in line) == (min(limits) >= 1)


def test_the_advice_names_the_break_even_and_the_largest_cause(counted):
    said = " ".join(advice(decided(counted("a", 3.0)), MODEL))
    limit = break_even(MODEL, network(3.0), Baseline("int8", 8), "high")
    assert f" and {8 * limit:.3g} (high end) spikes per synapse and image; it has 3, " in said
    assert "reads of weights" in said and "above the bounds of 0.15 to 1.38" in said
    assert "fewer" in said and "correctly than the int8 network" in said


def test_the_advice_names_what_nothing_beats_and_what_was_measured_in_part(counted):
    decision = decided(counted("a", 0.3, metrics={"reduced": "2,000 of 10,000 test images"}))
    first, *_, last = advice(decision, MODEL)
    for one in decision.candidates:
        known = not math.isnan(one.accuracy)
        assert (f"{one.name} (" in first) == (known and not decision.dominated(one))
    assert last == "The run was reduced: 2,000 of 10,000 test images."


def test_the_table_of_the_docs_has_a_line_per_network(counted):
    decision = decided(counted("a", 0.3))
    heads, _, row = energy_table([decision], MODEL).splitlines()
    assert heads.count("|") == row.count("|") and "0.30" in row
    limit = sum(relu_energy(MODEL, network(0.3), Baseline("int8", 8), "low").values()) / 1000
    assert f"{limit:,.0f}" in row


def test_the_page_is_well_formed_and_every_row_has_a_cell_per_heading(counted, make_run, tmp_path, capsys):
    runs, old = [counted("one <a>", 0.3), counted("two", 2.0)], make_run("earlier")
    assert main([*map(str, (*runs, old)), "--decide", "--out", str(tmp_path / "out")]) == 0
    page = ElementTree.fromstring((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.itertext()).split())
    assert "one <a>" in text and "run them again to see them here: earlier" in text
    for table in page.iter("table"):
        headings = len(table.findall("thead/tr/th"))
        assert {len(line.findall("td")) for line in table.findall("tbody/tr")} == {headings}
    assert "no leakage" in text and "Spiking" in capsys.readouterr().out


def test_several_networks_have_a_page_each(counted, tmp_path, capsys):
    runs = [counted("a", 0.3), counted("b", 0.3, config={"model": {"_target_": "own.Net"}}, paper={"title": "Own net"})]
    assert main([*map(str, runs), "--decide", "--out", str(tmp_path / "out")]) == 0
    pages = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(pages) == 3 and {"index.html", "own-net.html"} <= pages
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in text for name in pages - {"index.html"})
    (tmp_path / "out" / "mine.html").write_text("the user's")
    assert main([str(runs[0]), "--decide", "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "mine.html"}


def test_a_counted_run_that_cannot_be_judged_is_named(counted, tmp_path, capsys):
    runs = [counted("good", 0.3), counted("bad", 0.3, paper={"tolerance": 7})]
    assert main([*map(str, runs), "--decide", "--out", str(tmp_path / "out")]) == 0
    assert "left out: bad: " in " ".join(capsys.readouterr().out.split())
    assert "Left out: bad: " in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("lacks", ["operations.csv", "metrics.json"])
def test_runs_from_before_operations_were_counted_are_answered_in_a_line(lacks, make_run, tmp_path, capsys):
    run = make_run("old")
    (run / lacks).unlink(missing_ok=True)
    assert main([str(run.parent), "--decide", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "run them again" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "name,neurons",
        lambda text: "name,neurons,steps\nfc1,many,8",
        lambda text: text[: len(text) - 30],
        lambda text: text[: text.rindex("fc2")],
        lambda text: text.replace("141120.0", "-141120.0"),
        lambda text: text.replace("141120.0", "14112.0"),
    ],
)
def test_damaged_counts_are_answered_in_a_line(damage, counted, tmp_path, capsys):
    run = counted("a", 0.3)
    text = (run / "operations.csv").read_text()
    (run / "operations.csv").write_text(damage(text))
    assert damage(text) != text
    assert main([str(run), "--decide", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "operations.csv: damaged" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "steps", "words"),
    [
        ({"simulate": {"weight_bits": 8}}, 8, None),
        ({"simulate": {"weight_bits": 16}}, 8, "simulated with 16: type simulate.weight_bits=8"),
        (
            {"simulate": {"levels": None}},
            None,
            "type simulate.levels=256 for its accuracy",
        ),
    ],
)
def test_the_advice_says_where_accuracy_is_of_other_numbers_than_are_priced(config, steps, words, counted):
    said = [line for line in advice(decided(counted("a", 0.3, steps, config=config)), MODEL) if "priced" in line]
    assert said == [] if words is None else words in said[0]
    direct = decided(counted("b", 0.3, metrics={"snn/time_to_1pct_ms": None}))
    assert any("its accuracy with 8 is not known" in line for line in advice(direct, MODEL))


def test_the_report_shows_energy_with_memory_where_it_was_measured(counted, make_run):
    ends = {
        f"energy/{what}_{end}_nj": value
        for what in ("snn", "int8")
        for end, value in zip(ENDS, (1.0, 2.0), strict=True)
    }
    new = counted("new", 0.3, metrics=ends | {"energy/ratio_low": 0.5, "energy/ratio_high": 2.0})
    judged = judge(load_runs([new, make_run("old")]))
    columns = {column.key: column for column in DETAILS}
    cells = [columns["energy_ratio"].cell(run) for _, run in judged.iterrows()]
    assert cells == ["0.5 to 2", NOTHING]
    assert columns["energy/snn_nj"].short_heading == "SNN, arithmetic only (nJ)"
    assert MEMORY_RULE in energy(judged) and EARLIER in energy(judged) and "Arithmetic only" in energy(judged)
    assert EARLIER not in energy(judged.iloc[:1])


def test_several_seeds_are_priced_by_the_counts_of_the_first(counted):
    def seeded(seed, share):
        return counted(f"seed{seed}", share, config={"name": "net", "seed": seed})

    both, alone = decided(seeded(0, 0.3), seeded(1, 0.4)), decided(seeded(2, 0.3))
    assert [run.energy for run in both.spiking] == [run.energy for run in alone.spiking]
