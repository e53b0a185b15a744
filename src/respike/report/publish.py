"""Copies of results for the repository, without logs and without large networks, and the page of all that were published."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report.page import write_report
from respike.report.pictures import compact
from respike.report.runs import load_runs, with_skipped

NETWORKS = "checkpoints/*.pt"
HASHES = "checkpoints/networks.sha256"  # of the networks that are not copied
KEPT = (
    "config.yaml",
    "metrics.json",
    "curves.csv",
    "activity.csv",
    "operations.csv",
    "image_rates.csv",
    "training.csv",
    "disagreements.csv",
    "provenance.json",
    "figures/*.png",
    NETWORKS,
    HASHES,
)
# Of the jobs of a sweep, and of the further seeds of a row.
RECORD = ("config.yaml", "metrics.json", "curves.csv", "training.csv", "provenance.json", HASHES)
FILMS = "figures/*.gif"  # of the runs whose pictures a section of the page shows
SMALL = 200_000  # bytes: networks of up to this size are copied
SEED = re.compile(r"-seed\d+$")  # of the further seeds of a row
PAGE = "page.yaml"  # beside the copies: what is needed to make their page again


def publish(
    runs: Sequence[Path],
    place: Path,
    title: str,
    rows: Sequence[str],
    groups: Sequence[Mapping[str, Any]],
    skipped: Mapping[str, str],
) -> None:
    """Copy the results of the runs to place/runs, and write the page of all rows that were published there, now or earlier.

    rows: of the preset, in the order of the page; title, groups, skipped: as in `write_report`. Of a row's further seeds only
    the record is copied, without pictures and networks, which are named by their sha256.
    Raises InputError, before anything is copied, where results of another preset, or a run that is no copy, would be replaced.
    """
    file = place / "runs" / PAGE
    page: Any = OmegaConf.load(file) if file.is_file() else {}
    if page and page.title != title:
        raise InputError(f"--publish={place}: holds {page.title!r}; publish {title!r} in another folder")
    for run in runs:
        _check_copy(run, place / "runs" / run.name)
    for run in runs:
        shown = any(group.get("gallery") == run.name for group in groups)
        patterns = RECORD if SEED.search(run.name) else (*KEPT, FILMS) if shown else KEPT
        copy_run(run, place / "runs" / run.name, patterns)
    earlier = page.get("skipped") or {}
    known = {name: why for name, why in {**earlier, **skipped}.items() if SEED.sub("", name) in rows}
    page = {"title": title, "rows": list(rows), "groups": list(groups), "skipped": known}
    file.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(page), file)
    write_published(place / "runs", place)


def copy_run(run: Path, copied: Path, patterns: Sequence[str]) -> None:
    """Copy a run's files of these patterns, but for large networks, in place of an earlier copy, which stays after an error.

    Networks that are not copied are named by their sha256, in HASHES. Folders of this machine (paths.data, paths.outputs, the
    working directory) are written as data, outputs and relative paths.
    """
    _check_copy(run, copied)
    new = copied.with_name(f".new-{copied.name}")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    try:
        _copy_files(run, new, patterns)
        shutil.rmtree(copied, ignore_errors=True)
        os.replace(new, copied)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _check_copy(run: Path, copied: Path) -> None:
    """Raise InputError for a run in its own place, or where something lies that is no copy of a run."""
    if run.resolve() == copied.resolve():
        raise InputError(f"{run}: cannot be published in its own place; give another folder")
    known = {file for pattern in (*KEPT, FILMS) for file in copied.glob(pattern)}
    for file in sorted(copied.rglob("*")):
        large = file.suffix == ".pt" and file.stat().st_size >= SMALL
        if file.is_file() and (large or file not in known):
            raise InputError(f"{file}: no file of a published run; move it away, or publish in another folder")


def _copy_files(run: Path, copied: Path, patterns: Sequence[str]) -> None:
    names = _portable(run)
    for path in (file for pattern in patterns for file in run.glob(pattern)):
        if path.suffix == ".pt" and path.stat().st_size >= SMALL:
            continue
        copy = copied / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".yaml", ".json", ".csv"):
            copy.write_text(_renamed(path.read_text(encoding="utf-8"), names), encoding="utf-8")
        else:
            shutil.copyfile(path, copy)
    left_out = sorted(path for path in run.glob(NETWORKS) if not (copied / path.relative_to(run)).exists())
    if left_out:
        (copied / HASHES).parent.mkdir(parents=True, exist_ok=True)
        with (copied / HASHES).open("a", encoding="utf-8") as hashes:  # behind those of a run that was copied before
            hashes.writelines(f"{network_sha256(path)}  {path.name}\n" for path in left_out)
    compact(copied)


def network_sha256(path: Path) -> str:
    """The sha256 of the names and the bytes that a file of PyTorch holds.

    That of the file itself differs from run to run: every name in it begins with the name of the temporary file that it was.
    """
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            digest.update(f"{name.partition('/')[2]}\0".encode() + archive.read(name))
    return digest.hexdigest()


def publish_jobs(runs: Sequence[Path], place: Path) -> None:
    """Copy the records of runs that are compared, the jobs of a sweep for instance, to place/runs.

    Raises InputError for two runs of one name, and where a job of another sweep lies.
    """
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--publish: several runs are named {twice[0]}; publish one sweep at a time")
    for run in runs:
        _check_copy(run, place / "runs" / run.name)
        _check_same_sweep(run, place / "runs" / run.name)
    for run in runs:
        copy_run(run, place / "runs" / run.name, RECORD)


def _check_same_sweep(run: Path, copied: Path) -> None:
    """Raise InputError for a copy that is a job of another sweep: jobs of the same settings have the same names."""
    if not (copied / "config.yaml").is_file():
        return
    ours, theirs = _sweep_of(run), _sweep_of(copied)
    if ours != theirs:
        raise InputError(
            f"--publish: {copied} is a job of {theirs}, {run} one of {ours}; publish each sweep in a folder of its own"
        )


def _sweep_of(run: Path) -> str:
    """Name and sweep of a job."""
    config: Any = OmegaConf.load(run / "config.yaml")
    return f"{config.get('name')}/{config.get('sweep_name')}"


def _portable(run: Path) -> dict[str, str]:
    """Absolute folders that the texts of a run may name -> what its copy says, the longer path first."""
    config: Any = OmegaConf.load(run / "config.yaml")
    paths = config.get("paths") or {}
    named = {
        str(paths[key]).rstrip("/"): key for key in ("data", "outputs") if Path(paths.get(key) or "").is_absolute()
    }
    named[f"{Path.cwd()}/"] = ""
    return dict(sorted(named.items(), key=lambda pair: -len(pair[0])))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with these paths replaced where one begins and ends: /data, but not that of /home/data or /data2."""
    written = {form: name for place, name in names.items() for form in (place, json.dumps(place)[1:-1])}
    for place, name in written.items():
        end = "" if place.endswith("/") else r"(?![\w-]|\.\w)"
        text = re.sub(rf"(?<![\w.~}}-]){re.escape(place)}{end}", name, text)  # names hold no backslash
    return text


def write_published(runs: Path, out: Path, title: str = "") -> pd.DataFrame:
    """Write the page of a folder of published runs; returns the runs. Raises InputError for a folder without PAGE."""
    if not (runs / PAGE).is_file():
        raise InputError(f"{runs}: has no {PAGE}; publish with python -m respike.reproduce --publish=FOLDER")
    page: Any = OmegaConf.to_container(OmegaConf.load(runs / PAGE))
    found = [path for row in page["rows"] for path in [runs / row, *_seeds(runs, row)] if path.is_dir()]
    reasons = dict.fromkeys(page["rows"], "not run") | page["skipped"]
    skipped = {name: reason for name, reason in reasons.items() if runs / name not in found}
    write_report(load_runs(found), skipped, out, title or page["title"], page["groups"])
    return with_skipped(load_runs(found), skipped)


def _seeds(runs: Path, row: str) -> list[Path]:
    """The folders of the further seeds of a row."""
    return sorted(runs.glob(f"{row}-seed[0-9]*"), key=lambda path: int(path.name.rpartition("seed")[2]))
