"""Published runs: their page can be made again from the copies, byte for byte, and rows published earlier stay on it."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report.__main__ import main
from respike.report.publish import (
    HASHES,
    KEPT,
    PAGE,
    RECORD,
    SMALL,
    copy_run,
    network_sha256,
    publish,
    publish_jobs,
    write_published,
)
from respike.report.verdicts import judge
from respike.runs.compose import compose_run
from respike.train import train

ROWS = ["digits", "normalized", "absent"]
GROUPS = [{"title": "digits", "runs": ["digits", "normalized"], "table": True}]
REDUCED = (
    "experiment=digits_cnn",
    "data.test_size=20",
    "data.train_size=100",
    "trainer.max_epochs=1",
    "simulate.duration=0.01",
    "logger=none",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small runs, by row."""
    folder = tmp_path_factory.mktemp("runs")
    for name, convert in (("digits", "none"), ("normalized", "data_norm")):
        places = [f"paths.run={folder / name}", f"paths.outputs={folder}", f"name={name}"]
        train(compose_run([*REDUCED, f"convert={convert}", *places]))
    return {name: folder / name for name in ROWS[:2]}


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_the_page_is_made_again_from_the_copies_byte_for_byte(runs, tmp_path):
    publish(list(runs.values()), tmp_path, "Two nets", ROWS, GROUPS, {"absent": "needs a file"})
    page = contents(tmp_path)
    assert {"index.html", "REPORT.md", "results.csv", "fig-digits.png"} <= page.keys()
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == page
    text = page["REPORT.md"].decode()
    assert "# Two nets" in text and "needs a file" in text
    assert not list((tmp_path / "runs").rglob("*.log"))


def test_rows_published_earlier_stay_in_the_order_of_the_preset(runs, tmp_path):
    publish([runs["normalized"]], tmp_path, "", ROWS, GROUPS, {"digits": "failed", "absent": "needs a file"})
    publish([runs["digits"]], tmp_path, "", ROWS, GROUPS, {"normalized": "add ARGS=--long"})
    found = write_published(tmp_path / "runs", tmp_path)
    assert list(found.index) == ROWS
    publish([runs["digits"]], tmp_path, "", ROWS[:2], GROUPS, {})  # a row that left the preset
    assert list(write_published(tmp_path / "runs", tmp_path).index) == ROWS[:2]
    assert list(found["failure"].fillna("")) == ["", "", "needs a file"]


def test_of_further_seeds_the_record_alone_is_kept(runs, tmp_path):
    seed = tmp_path / "normalized-seed1"
    shutil.copytree(runs["normalized"], seed)
    config = OmegaConf.load(seed / "config.yaml")
    OmegaConf.save(OmegaConf.merge(config, {"seed": 1}), seed / "config.yaml")
    publish([runs["normalized"], seed], tmp_path / "out", "", ROWS, GROUPS, {"digits": "failed", "absent": "failed"})
    copied = tmp_path / "out/runs"
    names = {str(file.relative_to(copied / seed.name)) for file in (copied / seed.name).rglob("*") if file.is_file()}
    assert names == {name for name in RECORD if (seed / name).is_file()} | {HASHES}
    assert (copied / "normalized/figures").is_dir()
    merged = judge(write_published(copied, tmp_path / "out"))
    assert merged.at["normalized", "seeds"] == 2


def test_networks_that_are_not_copied_are_named_by_their_sha256(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["digits"], run)
    torch.save({"w": torch.zeros(3)}, run / "checkpoints/ann.pt")
    large = run / "checkpoints/snn.pt"
    assert large.stat().st_size >= SMALL
    copy_run(run, tmp_path / "out", KEPT)
    assert (tmp_path / "out" / HASHES).read_text() == f"{network_sha256(large)}  snn.pt\n"
    assert [path.name for path in (tmp_path / "out").rglob("*.pt")] == ["ann.pt"]
    copy_run(tmp_path / "out", tmp_path / "again", RECORD)
    assert (tmp_path / "again" / HASHES).read_text().split()[1::2] == ["snn.pt", "ann.pt"]


def test_equal_networks_have_the_same_sha256_whatever_their_files_were_called(tmp_path):
    for name, weights in (("a.pt", torch.ones(5)), ("b.7.pt", torch.ones(5)), ("other.pt", torch.full((5,), 2.0))):
        torch.save({"w": weights}, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() != (tmp_path / "b.7.pt").read_bytes()
    first, second, third = (network_sha256(tmp_path / name) for name in ("a.pt", "b.7.pt", "other.pt"))
    assert first == second != third


def test_a_folder_that_was_not_published_is_refused(runs):
    with pytest.raises(InputError, match=f"{PAGE}.*--publish"):
        write_published(runs["digits"].parent, runs["digits"].parent / "out")


def test_runs_that_were_compared_are_published_without_the_folders_of_this_machine(runs, tmp_path, capsys):
    place = tmp_path / "published"
    place.mkdir()
    shutil.copyfile(runs["digits"] / "figures/samples.png", place / "mine.png")
    assert main([*map(str, runs.values()), "--compare", "--publish", str(place)]) == 0
    assert (place / "mine.png").read_bytes() == (runs["digits"] / "figures/samples.png").read_bytes()
    (place / "mine.png").unlink()
    for row, run in runs.items():
        copied = place / "runs" / row
        assert (copied / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()
        config = (copied / "config.yaml").read_text()
        assert str(run.parent) not in config and f"run: outputs/{row}" in config
        assert not list(copied.rglob("*.pt"))
    page = contents(place)
    assert {"index.html", "comparison.csv"} <= page.keys()
    assert str(tmp_path).encode() not in page["comparison.csv"] and b"runs/digits" in page["comparison.csv"]
    for name in page:
        (place / name).unlink()
    assert main([str(place / "runs"), "--compare", "--out", str(place)]) == 0
    again = contents(place)
    assert page.keys() == again.keys() and all(page[name] == again[name] for name in page if name.endswith(".csv"))


def test_jobs_of_another_sweep_are_not_replaced(make_run, tmp_path):
    """Jobs of the same settings have the same folder names in every sweep."""
    first = make_run("threshold=1", config={"name": "fc", "sweep_name": "grid"})
    publish_jobs([first], tmp_path / "out")
    first = first.rename(tmp_path / "first")
    second = make_run("threshold=1", config={"name": "cnn", "sweep_name": "grid"})
    with pytest.raises(InputError, match=r"is a job of fc/grid, .* one of cnn/grid; publish each sweep in a folder"):
        publish_jobs([second], tmp_path / "out")
    assert OmegaConf.load(tmp_path / "out/runs/threshold=1/config.yaml").name == "fc"


def test_only_whole_paths_are_renamed(make_run, tmp_path):
    """A data folder /data is no part of /data2, nor of /home/data."""
    named = {"paths": {"data": "/data", "outputs": "/out"}, "of": ["/data/a.mat", "/data.", "/data2/b", "/home/data/c"]}
    copy_run(make_run("named", config=named), tmp_path / "copy", KEPT)
    config = OmegaConf.load(tmp_path / "copy/config.yaml")
    assert list(config.of) == ["data/a.mat", "data.", "/data2/b", "/home/data/c"]
    assert config.paths == {"data": "data", "outputs": "outputs"}


def test_what_cannot_be_published_is_one_line_and_leaves_everything(runs, tmp_path, capsys):
    run, place = str(runs["digits"]), str(tmp_path / "out")
    with pytest.raises(SystemExit):
        main([run, "--publish", place])
    assert "--publish stands with --compare" in capsys.readouterr().err
    assert main([*map(str, runs.values()), "--compare", "--publish", place]) == 0
    capsys.readouterr()
    before = everything(tmp_path / "out")
    assert main([f"{place}/runs", "--compare", "--publish", place]) == 2
    assert "cannot be published in its own place" in capsys.readouterr().err
    for wrong in (["--sort", "nonsense"], ["--columns", "nonsense"], ["--out", f"{run}/config.yaml"]):
        assert main([*map(str, runs.values()), "--compare", "--publish", place, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert everything(tmp_path / "out") == before


def test_a_run_that_is_no_copy_is_not_replaced(runs, tmp_path):
    own = tmp_path / "runs/digits"
    shutil.copytree(runs["digits"], own)
    before = everything(own)
    for copy in (
        lambda: publish(list(runs.values()), tmp_path, "", ROWS, GROUPS, {"absent": "needs a file"}),
        lambda: publish_jobs(list(runs.values()), tmp_path),
    ):
        with pytest.raises(InputError, match="no file of a published run; move it away"):
            copy()
        assert everything(tmp_path / "runs") == {f"digits/{name}": content for name, content in before.items()}


def test_a_copy_stays_where_a_later_one_fails(runs, tmp_path):
    copy_run(runs["digits"], tmp_path / "copy", KEPT)
    before = everything(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(runs["digits"], broken)
    (broken / "config.yaml").write_text("name: [")
    with pytest.raises(Exception, match="expected"):
        copy_run(broken, tmp_path / "copy", KEPT)
    shutil.rmtree(broken)
    assert everything(tmp_path) == before


def test_results_of_another_preset_are_not_replaced(runs, tmp_path):
    publish(list(runs.values()), tmp_path, "Two nets", ROWS, GROUPS, {"absent": "needs a file"})
    before = everything(tmp_path)
    with pytest.raises(InputError, match="holds 'Two nets'; publish 'Quick' in another folder"):
        publish([runs["digits"]], tmp_path, "Quick", ROWS, GROUPS, {})
    assert everything(tmp_path) == before
