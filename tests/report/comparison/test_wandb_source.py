"""A W&B run becomes the run that its folder would have given, and compares with it."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report.comparison import compare
from respike.report.comparison.wandb_source import project_runs, to_record
from respike.report.runs import frame_of, read_run

FACTS = ("data", "reduced", "test_images")


def uploaded(path, **changes):
    """What `wandb.Api` gives for a run that logged what is in the folder `path`."""
    metrics = json.loads((path / "metrics.json").read_text())
    facts = {name: metrics[name] for name in FACTS}
    rows = pd.read_csv(path / "curves.csv").add_prefix("sim/").to_dict("records")
    summary = {name: value for name, value in metrics.items() if name not in FACTS}
    summary |= {"_step": 9, "_wandb": {"runtime": 3}, "figures/accuracy": {"_type": "image-file"}}
    config = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
    source = {
        "id": "ab12", "state": "finished", "config": config | {"facts": facts}, "summary": summary,
        "created_at": "2025-11-21T18:20:05",
        "scan_history": lambda keys: [{k: row[k] for k in keys} for row in rows[::-1] if row.keys() >= set(keys)],
    }  # fmt: skip
    return SimpleNamespace(**(source | changes))


def test_an_uploaded_run_is_the_run_of_its_folder(grid_runs):
    path = grid_runs["path"].iloc[0]
    online, local = to_record(uploaded(path), "me/spikes"), read_run(path)
    assert online.pop("path").as_posix() == "me/spikes/ab12"
    pd.testing.assert_frame_equal(online.pop("curve"), local.pop("curve"))
    assert online == {key: value for key, value in local.items() if key in online}
    lost = local.keys() - online.keys()
    assert all(key == "path" or key.startswith("provenance.") for key in lost)


def test_runs_of_both_sources_compare(grid_runs):
    paths = list(grid_runs["path"])
    online = [to_record(uploaded(path, id=f"run{i}"), "me/spikes") for i, path in enumerate(paths[:4])]
    mixed = compare(frame_of([*online, *map(read_run, paths[4:])]))
    local = compare(grid_runs)
    pd.testing.assert_frame_equal(mixed.points, local.points)
    assert list(mixed.means["snn/test_acc"]) == list(local.means["snn/test_acc"])


def test_unfinished_runs_and_those_of_other_programs_are_refused_by_name(make_run):
    run = make_run("a")
    with pytest.raises(InputError, match="me/spikes/ab12: state crashed"):
        to_record(uploaded(run, state="crashed"), "me/spikes")
    with pytest.raises(InputError, match="only runs logged by respike"):
        to_record(uploaded(run, config={"lr": 1}), "me/spikes")


@pytest.mark.parametrize("name", ["project", "a/b/c", "/x"])
def test_a_project_is_an_entity_and_a_name(name):
    with pytest.raises(InputError, match="expected entity/project"):
        project_runs(name)


def test_without_a_network_or_an_account_one_line_says_what_is_needed(monkeypatch):
    import wandb

    def refuse(**_):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(no route to host\); it needs a network") as caught:
        project_runs("me/spikes")
    assert "\n" not in str(caught.value)


def test_a_run_without_a_curve_has_an_empty_one(make_run):
    assert to_record(uploaded(make_run("a"), scan_history=lambda keys: []), "me/spikes")["curve"].empty


def test_a_directly_trained_network_keeps_its_curve(make_run):
    path = make_run("direct")
    (path / "curves.csv").write_text("step,acc,spikes_per_image\n1,0.5,3\n2,0.9,6\n")
    pd.testing.assert_frame_equal(to_record(uploaded(path), "me/spikes")["curve"], read_run(path)["curve"])
