"""Read finished run directories: the resolved config, the metrics, the curve and where they came from."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from respike.errors import InputError

# Without these three a number cannot be held against a published one, so a file that lacks them is refused.
REQUIRED_METRICS = ("data", "reduced", "test_images")


@dataclass(frozen=True)
class Run:
    """One finished run, as its directory tells it.

    path: the run directory.
    config: the resolved configuration as plain dicts and lists.
    metrics: flat, slash-separated names; accuracies are fractions, energies nJ, times s (or as the name says).
    curve: columns of curves.csv, each [steps], none without the file; acc, agreement are fractions, empty cells NaN.
    provenance: commit, packages, data checksum, seed, device, processor, wall time per stage [s].
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curve: Mapping[str, list[float]]
    provenance: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The row's name, or the directory's where the config gives none."""
        return str(self.config.get("name") or self.path.name)

    @property
    def paper(self) -> Mapping[str, Any]:
        """The published side of the row; empty where the run reproduces nothing published."""
        return self.config.get("paper") or {}

    @property
    def reduced(self) -> str:
        """Why the run is smaller than the published one, reasons joined by "; "; "" for a full run."""
        return str(self.metrics["reduced"])

    def number(self, metric: str) -> float | None:
        """The metric as a finite number, or None where the run did not measure it."""
        value = self.metrics.get(metric)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def family(self, prefix: str) -> dict[str, float]:
        """Finite metrics below `prefix`, keyed by what follows it: `family("snn/rate/")` -> {layer: Hz}."""
        found = {name.removeprefix(prefix): self.number(name) for name in self.metrics if name.startswith(prefix)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Failure:
    """A job that ended without a result: its directory, resolved config, what was typed for it, and why it failed."""

    path: Path
    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    reason: str


def load_run(path: Path | str) -> Run:
    """Read one run directory.

    Raises InputError when the directory is missing or unfinished, or one of its files cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory; give a directory that holds metrics.json")
    if not (path / "metrics.json").is_file():
        raise InputError(f"{path}: unfinished, it holds no metrics.json (written last); run the experiment again")
    metrics = _read_json(path / "metrics.json")
    missing = [name for name in REQUIRED_METRICS if name not in metrics]
    if missing:
        raise InputError(f"{path / 'metrics.json'}: lacks {', '.join(missing)}; run the experiment again")
    curves = path / "curves.csv"
    return Run(
        path=path,
        config=_read_config(path / "config.yaml"),
        metrics=metrics,
        curve=_read_curve(curves) if curves.is_file() else {},
        provenance=_read_json(path / "provenance.json"),
    )


def find_runs(folder: Path | str) -> list[Run]:
    """Every finished run in or below `folder`, sorted by name, then path; see `find_unfinished` for the others.

    Raises InputError when the folder does not exist or one of the runs cannot be read.
    """
    found = [load_run(file.parent) for file in _below(folder, "metrics.json")]
    return sorted(found, key=lambda run: (run.name, str(run.path)))


def find_unfinished(folder: Path | str) -> list[Path]:
    """Directories in or below `folder` with a config.yaml but no metrics.json, sorted.

    Raises InputError when the folder does not exist.
    """
    return [file.parent for file in _below(folder, "config.yaml") if not (file.parent / "metrics.json").is_file()]


def load_failure(path: Path | str) -> Failure:
    """Read a directory without metrics.json: failure.json says why, else it is unfinished.

    A config.yaml cut short counts as an empty one. Raises InputError when failure.json cannot be read.
    """
    path = Path(path)
    kept = path / "failure.json"
    told = _read_json(kept) if kept.is_file() else {}
    overrides = told.get("overrides") or ()
    if not isinstance(overrides, list | tuple):
        raise InputError(f"{kept}: overrides is {overrides!r}; expected a list; run the job again")
    reason = " ".join(str(told.get("reason") or "unfinished, no metrics.json").split())
    try:
        config = _read_config(path / "config.yaml")
    except InputError:  # killed while it wrote, or before
        config = {}
    return Failure(path, config, tuple(map(str, overrides)), reason)


def _below(folder: Path | str, filename: str) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run directory or a folder of them")
    # Hydra keeps its own config.yaml in the hidden .hydra of every run.
    found = (file for file in folder.rglob(filename) if not _hidden(file.relative_to(folder)))
    return sorted(found)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; a finished run holds it, run the experiment again") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); run the experiment again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected an object; run the experiment again")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; a finished run holds it, run the experiment again") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a resolved config ({reason}); run the experiment again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a list, expected keys and values; run the experiment again")
    return content


def _read_curve(path: Path) -> dict[str, list[float]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns: dict[str, list[float]] = {name: [] for name in reader.fieldnames or ()}
        for record in reader:
            for name, column in columns.items():
                column.append(_cell(record[name], path, reader.line_num))
    if not {"step", "acc"} <= columns.keys():
        raise InputError(f"{path}: has columns {', '.join(columns) or 'none'}; expected at least step and acc")
    return columns


def _cell(text: str | None, path: Path, line: int) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise InputError(f"{path}: line {line} holds {text!r}; expected a number") from error
