"""A W&B run becomes the run that its folder would have given, and compares with it."""

from types import SimpleNamespace

import pytest

from respike.errors import InputError
from respike.report import load_run
from respike.report.comparison import compare
from respike.report.comparison.measures import metric
from respike.report.comparison.wandb_source import project_runs, to_run

FACTS = ("data", "reduced", "test_images")


def uploaded(run, **changes):
    """What `wandb.Api` gives for a run that logged what is in the folder."""
    facts = {name: run.metrics[name] for name in FACTS}
    rows = [
        dict(zip((f"sim/{name}" for name in run.curve), at, strict=True))
        for at in zip(*run.curve.values(), strict=True)
    ]
    summary = {name: value for name, value in run.metrics.items() if name not in FACTS}
    summary |= {"_step": 9, "_wandb": {"runtime": 3}, "sim/acc": 0.9, "figures/accuracy": {"_type": "image-file"}}
    source = {
        "id": "ab12", "state": "finished", "config": dict(run.config) | {"facts": facts}, "summary": summary,
        "created_at": "2025-11-21T18:20:05", "scan_history": lambda keys: [{k: row[k] for k in keys} for row in rows[::-1]],
    }  # fmt: skip
    return SimpleNamespace(**(source | changes))


def test_an_uploaded_run_is_the_run_of_its_folder(grid_runs):
    run = grid_runs[0]
    made = to_run(uploaded(run), "me/spikes")
    assert (made.config, made.metrics, made.curve) == (run.config, run.metrics, run.curve)
    assert made.path.as_posix() == "me/spikes/ab12"


def test_runs_of_both_sources_compare(grid_runs):
    online = [to_run(uploaded(run, id=f"run{i}"), "me/spikes") for i, run in enumerate(grid_runs[:4])]
    mixed, local = compare([*online, *grid_runs[4:]]), compare(grid_runs)
    accuracy = metric("snn/test_acc")
    assert [point.values for point in mixed.points] == [point.values for point in local.points]
    assert [point.mean(accuracy) for point in mixed.points] == [point.mean(accuracy) for point in local.points]


def test_unfinished_runs_and_those_of_other_programs_are_refused_by_name(make_run):
    run = load_run(make_run("a"))
    with pytest.raises(InputError, match="me/spikes/ab12: state crashed"):
        to_run(uploaded(run, state="crashed"), "me/spikes")
    with pytest.raises(InputError, match="only runs logged by respike"):
        to_run(uploaded(run, config={"lr": 1}), "me/spikes")


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
    assert to_run(uploaded(load_run(make_run("a")), scan_history=lambda keys: []), "me/spikes").curve == {}
