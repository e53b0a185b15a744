"""Offline runs are found, uploaded where there is an account, and linked for the terminal dashboard."""

import sys
from pathlib import Path

import pytest
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from respike.runs import offline as offline_runs
from respike.runs.compose import CONF, compose_run

SWEEPS = sorted((CONF / "wandb_sweeps").glob("*.yaml"))


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What would have been executed; there is no account unless a test gives one."""
    made = []
    monkeypatch.setattr(
        offline_runs.subprocess, "run", lambda command: made.append(command) or type("", (), {"returncode": 0})
    )
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return made


def written(root, *names):
    for name in names:
        folder = root / "runs" / name / "wandb" / f"offline-run-2026_{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").write_bytes(b"")
    return root


def test_runs_that_are_not_uploaded_yet_are(tmp_path, calls, monkeypatch, capsys):
    written(tmp_path, "a", "b", "c")
    assert offline_runs.main(["sync", str(tmp_path)]) == 1
    assert "wandb login" in capsys.readouterr().err and not calls
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    (tmp_path / "runs" / "b" / "wandb" / "offline-run-2026_b" / "run-b.wandb.synced").touch()
    assert offline_runs.main(["sync", str(tmp_path)]) == 0
    assert [path.rsplit("_")[-1] for path in calls[0][4:]] == ["a", "c"] and calls[0][:4] == [
        sys.executable,
        "-m",
        "wandb",
        "sync",
    ]


@pytest.mark.parametrize("file", [".netrc", "_netrc", "elsewhere"])
def test_a_login_is_seen(tmp_path, calls, monkeypatch, file):
    if file == "elsewhere":
        monkeypatch.setenv("NETRC", "~/elsewhere")
    assert not offline_runs.has_account()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / file).write_text("machine api.wandb.ai login user password " + "x" * 40)
    assert offline_runs.has_account()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    assert not offline_runs.has_account()


def test_a_token_of_an_identity_is_an_account(calls, monkeypatch):
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "/run/token")
    assert offline_runs.has_account()


def test_a_user_without_a_home_folder_has_no_account(calls, monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME")
    assert not offline_runs.has_account()


def test_the_dashboard_shows_one_folder_with_a_link_to_every_run_and_touches_nothing(tmp_path, monkeypatch, capsys):
    written(tmp_path, "a", "b")
    (tmp_path / "dashboard").mkdir()
    (tmp_path / "dashboard" / "thesis.txt").write_text("mine")
    shown = []

    def leet(command):
        shown.extend(sorted(path.name for path in Path(command[-1]).iterdir()))
        return type("", (), {"returncode": 0})

    monkeypatch.setattr(offline_runs.subprocess, "run", leet)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert offline_runs.main(["dashboard", str(tmp_path)]) == 1
    assert "needs a terminal" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert offline_runs.main(["dashboard", str(tmp_path)]) == 0
    assert shown == ["offline-run-2026_a", "offline-run-2026_b"]
    assert (tmp_path / "dashboard" / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dashboard", "runs"]


@pytest.mark.parametrize("action", ["sync", "dashboard"])
def test_a_folder_without_offline_runs_is_one_line(tmp_path, action, capsys):
    assert offline_runs.main([action, str(tmp_path)]) == 1
    assert "no offline run" in capsys.readouterr().err
    assert offline_runs.main([action, str(tmp_path / "nosuch")]) == 1
    assert f"{tmp_path / 'nosuch'}: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_wandb_sweep_drives_the_same_entry_point_with_keys_that_exist(file):
    config = load_sweep_config(str(file))
    assert config["command"][2:5] == ["python", "-m", "${program}"] and config["command"][-1] == "${args_no_hyphens}"
    assert config["program"] == "respike.train" and config["metric"]["goal"] == "maximize"
    for pick in (0, -1):
        chosen = [
            f"{key}={parameter['values'][pick] if 'values' in parameter else parameter[('min', 'max')[pick]]}"
            for key, parameter in config["parameters"].items()
        ]
        assert compose_run([config["command"][-2], "paths.run=x", *chosen]).name == "diehl_fc"
