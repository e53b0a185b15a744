"""The command line and its page: files, links, failed jobs, data sets, and bad input in one line each."""

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from respike.report.__main__ import main

FILES = {
    "index.html", "runs.html", "comparison.csv", "means.csv", "compare-curves.png", "compare-trade-off.png",
    "compare-map-test-acc.png", "compare-map-time-to-1pct-ms.png", "compare-map-spikes-per-image.png",
}  # fmt: skip


def compared(folder, *options):
    return main([str(folder / "runs"), "--compare", "--out", str(folder / "out"), *options])


def test_a_sweep_gives_maps_curves_trade_offs_tables_and_a_page_whose_links_resolve(
    grid_runs, grid_configs, sweep, make_failure, capsys
):
    make_failure("bad <job>", grid_configs[1, 200, "none"], ["neuron.threshold=1", "convert=none"], "no & memory")
    assert compared(sweep, "--sort", "-energy/snn_nj") == 0
    assert {path.name for path in (sweep / "out").iterdir()} == FILES
    page = ElementTree.fromstring((sweep / "out/index.html").read_text(encoding="utf-8"))
    links = [e.get(key) for e in page.iter() for key in ("href", "src") if e.get(key)]
    assert len(links) == len(grid_runs) + 2 + 5
    runs = ElementTree.fromstring((sweep / "out/runs.html").read_text(encoding="utf-8"))
    anchors = {f"runs.html#{element.get('id')}" for element in runs.iter("dl")}
    assert len(anchors) == len(grid_runs) and anchors < set(links)
    links += [e.get(key) for e in runs.iter() for key in ("href", "src") if e.get(key)]
    assert all((sweep / "out" / unquote(link.partition("#")[0])).exists() for link in links)
    text = " ".join(page.itertext())
    assert "bad <job>" in text and "neuron.threshold=1 convert=none" in text and "no & memory" in text
    assert "http" not in (sweep / "out/index.html").read_text()
    tables = page.findall(".//table")
    for table in tables:
        assert {len(line.findall("td")) for line in table.findall("tbody/tr")} == {len(table.findall("thead/tr/th"))}
    printed = capsys.readouterr().out
    assert re.search(r"no result: .*bad <job> neuron.threshold=1 convert=none: no & memory", printed)
    energies = [float(c.get("data-value")) for c in tables[0].findall("tbody/tr/td[9]")]
    assert energies == sorted(energies, reverse=True)


def test_different_data_sets_are_compared_and_labelled(make_run, resolved, tmp_path, capsys):
    for data in ("MNIST", "FashionMNIST"):
        for threshold in (1, 2):
            config = resolved(f"neuron.threshold={threshold}")
            make_run(f"{data}-{threshold}", config=config, metrics={"data": data})
    assert compared(tmp_path) == 0
    assert "note: Different data sets are compared: " in capsys.readouterr().out
    assert (tmp_path / "out/comparison.csv").read_text().startswith("data,neuron.threshold,")
    assert "FashionMNIST (2 runs)" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sort", "nonsense"], "no run measured 'nonsense'"),
        (["--columns", "nonsense"], "no run measured 'nonsense'"),
        (["--latency", "98"], "as a fraction such as 0.98"),
        (["--latency", "soon"], "--latency soon: expected within"),
        (["--wandb", "project"], "expected entity/project"),
    ],
)
def test_bad_options_are_one_line(sweep, capsys, options, said):
    assert compared(sweep, *options) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (sweep / "out").exists()


def test_nothing_to_compare_is_one_line(make_run, resolved, tmp_path, capsys):
    make_run("one", config=resolved())
    assert compared(tmp_path) == 2
    assert "nothing to compare: only" in capsys.readouterr().err
    make_run("two", config=resolved())
    assert compared(tmp_path) == 2
    assert "the 2 runs have the same settings and seed" in capsys.readouterr().err


def test_only_failed_jobs_say_why(resolved, make_failure, tmp_path, capsys):
    make_failure("job", resolved(), ["a=1"], "out of memory")
    assert compared(tmp_path) == 2
    assert "no run is finished (1 without a result, the first: out of memory)" in capsys.readouterr().err


def test_a_job_killed_while_it_wrote_its_config_does_not_stop_the_others(sweep, capsys):
    (sweep / "runs/cut").mkdir()
    (sweep / "runs/cut/config.yaml").write_text("a: [1")
    assert compared(sweep) == 0
    assert "cut" in capsys.readouterr().out


def test_seeds_alone_have_a_mean_and_a_page(make_run, resolved, tmp_path, capsys):
    for seed in range(3):
        make_run(str(seed), config=resolved(f"seed={seed}"), metrics={"snn/test_acc": 0.97 + 0.01 * seed})
    assert compared(tmp_path) == 0
    assert "98.00 ± 2.48" in capsys.readouterr().out
    assert "98.00 ± 2.48" in (tmp_path / "out/index.html").read_text()
