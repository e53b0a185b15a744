"""Run directories as one pandas DataFrame: a row per run; settings, metrics and provenance are columns.

path, name: the directory, and the name that the config gives. failure: why there is no result, "" for a finished run.
overrides: what was typed for a job without a result. curve: curves.csv as a DataFrame (step, time_ms, acc, ...), empty
without the file. rates: {metric: value} of the layers, first layer first.
cfg.<key>: the settings by their dotted key, lists as JSON; None is the config's null, NaN means that there is no such key.
provenance.<key>: commit, packages, device, start. Every other column is a metric under its name in metrics.json.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from respike.errors import InputError
from respike.runs.old_names import new_key, new_target
from respike.system.files import read_csv

# A result is compared with a published one only if these three are known.
REQUIRED_METRICS = ("data", "reduced", "test_images")
DEPARTURES = ("experiment", "differs", "other_data", "other_recipe")  # see respike.runs.protocol; early runs lack them
FACTS = (*REQUIRED_METRICS, "changed", "calibrated_on", *DEPARTURES)  # metrics whose names have no slash
RATES = ("snn/rate/", "snn/activity/")
COLUMNS = ("path", "name", "failure", "overrides", "curve", "rates", *FACTS)
# Before neurons had a config block of their own, their kind followed from their keys.
NEURONS = {
    "neuron.threshold": "respike.neurons.integrate_fire.IntegrateFire",
    "neuron.v_th": "respike.neurons.lif.LIF",
}


def load_runs(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The runs in or below the given directories, each once, labelled by a unique name (the index).

    Runs of a folder are sorted by name, then path, its unfinished jobs last. A run of which a file cannot be read has the
    reason as its failure. Raises InputError when a directory is missing or holds no run, or the only run cannot be read.
    """
    return frame_of(read_runs(paths))


def read_runs(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """One record per run, as `frame_of` takes them; see `load_runs`."""
    found: dict[Path, dict[str, Any]] = {}
    for path in map(Path, paths):
        if _failed(path):
            records = [read_failure(path, path.resolve().name)]
        elif (path / "metrics.json").is_file() or (path / "config.yaml").is_file():
            records = [read_run(path) if len(paths) == 1 else _read_or_say(path)]
        else:
            records = _read_folder(path)
        found |= {record["path"].resolve(): record for record in records}
    return list(found.values())


def _read_or_say(path: Path) -> dict[str, Any]:
    """The record of a run; of one that cannot be read, a record with the reason."""
    try:
        return read_run(path)
    except InputError as error:
        return _without_result(path, path.name, " ".join(str(error).split()), "")


def frame_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A DataFrame of records; object columns, so that integers, texts and nulls stay what they are in the files."""
    frame = pd.DataFrame(list(records), dtype=object).reindex(columns=_columns(records))
    for text in ("failure", "overrides", "reduced", "changed"):
        frame[text] = frame[text].fillna("")
    return frame.set_axis(labels(frame), axis="index")


def read_run(path: Path) -> dict[str, Any]:
    """The record of one finished run. Raises InputError when it is unfinished or one of its files cannot be read."""
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory; give a directory that holds metrics.json")
    if not (path / "metrics.json").is_file():
        raise InputError(f"{path}: unfinished, it holds no metrics.json (written last); run the experiment again")
    metrics = _read_json(path / "metrics.json")
    missing = [name for name in REQUIRED_METRICS if name not in metrics]
    if missing:
        raise InputError(f"{path / 'metrics.json'}: lacks {', '.join(missing)}; run the experiment again")
    for name in metrics.keys() & set(FACTS):
        kind = int if name == "test_images" else str
        if type(metrics[name]) is not kind or metrics[name] == 0:
            wanted = "a whole number from 1 up" if kind is int else "a text"
            raise InputError(f"{path / 'metrics.json'}: {name} is {metrics[name]!r}; expected {wanted}")
    curves = path / "curves.csv"
    curve = _read_curve(curves) if curves.is_file() else pd.DataFrame()
    return record_of(path, _read_config(path / "config.yaml"), metrics, curve, _read_json(path / "provenance.json"))


def record_of(
    path: Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    curve: pd.DataFrame,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a finished run from the contents of its files."""
    return {
        "path": path,
        "name": str(config.get("name") or path.name),
        "curve": curve,
        "rates": {name: value for name, value in metrics.items() if name.startswith(RATES)},
        **{name: value for name, value in metrics.items() if "/" in name or name in FACTS},
        **{f"cfg.{key}": value for key, value in flat_settings(config).items()},
        **{f"provenance.{key}": value for key, value in _leaves(provenance, "")},
    }


def read_failure(path: Path, name: str) -> dict[str, Any]:
    """The record of a job without a result: failure.json gives the reason, without it the job is unfinished.

    A config.yaml cut short counts as an empty one. Raises InputError when failure.json cannot be read.
    """
    file = path / "failure.json"
    failure = _read_json(file) if file.is_file() else {}
    overrides = failure.get("overrides") or ()
    if not isinstance(overrides, list | tuple):
        raise InputError(f"{file}: overrides is {overrides!r}; expected a list; run the job again")
    try:
        settings = flat_settings(_read_config(path / "config.yaml"))
    except InputError:  # the job was killed before or while it wrote the file
        settings = {}
    reason = " ".join(str(failure.get("reason") or "unfinished, no metrics.json").split())
    failed = _without_result(path, name, reason, " ".join(map(str, overrides)))
    return failed | {f"cfg.{key}": value for key, value in settings.items()}


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a resolved config under its dotted key; those of earlier versions under their present names."""
    old = "neuron" not in config
    found = {new_key(key) if old else key: value for key, value in _leaves(config, "")}
    for key, kind in NEURONS.items():
        if old and key in found:
            found["neuron._target_"] = kind
    for key, value in found.items():
        if key.endswith("_target_") and isinstance(value, str) and value.startswith("respike."):
            found[key] = new_target(value)
    return found


def with_skipped(frame: pd.DataFrame, reasons: Mapping[str, str]) -> pd.DataFrame:
    """The frame with a row for each name without a run; `reasons`: name -> why it was skipped."""
    skipped = [_without_result(Path(name), name, reason, "") for name, reason in reasons.items()]
    return pd.concat([frame, frame_of(skipped)]) if skipped else frame


def is_number(value: Any) -> bool:
    """Whether the value is a finite int or float; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_missing(value: Any) -> bool:
    """Whether a cell of the frame holds nothing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def numbers(frame: pd.DataFrame, metric: str) -> pd.Series:
    """A metric as floats, NaN where a run did not measure a finite number."""
    if metric not in frame:
        return pd.Series(np.nan, frame.index, dtype=float)
    return frame[metric].map(lambda value: float(value) if is_number(value) else math.nan).astype(float)


def metric_names(frame: pd.DataFrame) -> list[str]:
    """The names of all metrics except the facts about the run, sorted."""
    return sorted(name for name in frame.columns if "/" in name and not name.startswith(("cfg.", "provenance.")))


def below(row: pd.Series, prefix: str) -> dict[str, Any]:
    """The cells whose column starts with `prefix`, by what follows it, missing ones left out."""
    return {
        name.removeprefix(prefix): value
        for name, value in zip(row.index, row, strict=True)
        if name.startswith(prefix) and not is_missing(value)
    }


def _without_result(path: Path, name: str, reason: str, overrides: str) -> dict[str, Any]:
    shared = {"path": path, "name": name, "rates": {}, "curve": pd.DataFrame()}
    return shared | {"failure": reason, "overrides": overrides}


def _columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys([*COLUMNS, *(name for record in records for name in record)]))


def labels(frame: pd.DataFrame) -> list[str]:
    """The name of each run of a frame; where several runs share it, with the end of the path that distinguishes them."""
    runs = [(name, Path(path).resolve()) for name, path in zip(frame["name"], frame["path"], strict=True)]
    return [_label(name, path, [other for shared, other in runs if shared == name]) for name, path in runs]


def _label(name: str, path: Path, namesakes: Sequence[Path]) -> str:
    if len(namesakes) == 1:
        return name
    for depth in range(1, len(path.parts) + 1):
        end = path.parts[-depth:]
        if sum(other.parts[-depth:] == end for other in namesakes) == 1:
            return f"{name} ({'/'.join(end)})"
    raise InputError(f"{path}: given twice; give each run once")


def _read_folder(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run directory or a folder of them")
    finished = [_read_or_say(file.parent) for file in _below(folder, "metrics.json") if not _failed(file.parent)]
    unfinished = [
        read_failure(file.parent, str(file.parent.relative_to(folder.parent)))
        for file in _below(folder, "config.yaml")
        if _failed(file.parent) or not (file.parent / "metrics.json").is_file()
    ]
    if not finished and not unfinished:
        raise InputError(f"{folder}: holds no run; give a directory with metrics.json or a folder of them")
    return sorted(finished, key=lambda run: (run["name"], str(run["path"]))) + unfinished


def _failed(folder: Path) -> bool:
    """Whether the last job there failed; it may have left the result of an earlier one with other settings."""
    failure, result = folder / "failure.json", folder / "metrics.json"
    return failure.is_file() and not (result.is_file() and result.stat().st_mtime > failure.stat().st_mtime)


def _below(folder: Path, filename: str) -> list[Path]:
    # Hydra keeps its own config.yaml in the hidden folder .hydra of every run.
    files = (file for file in folder.rglob(filename) if not _is_hidden(file.relative_to(folder)))
    return sorted(files)


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        yield key, json.dumps(value)
    else:
        yield key, value
        if value is None:  # other runs may choose a callable in this place
            yield f"{key}._target_", None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; a finished run holds it, run the experiment again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); run the experiment again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected an object; run the experiment again")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    """The settings as they are written: a run may be anybody's, so no interpolation (${oc.env:...}) is resolved."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; a finished run holds it, run the experiment again") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a config ({reason}); run the experiment again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a list, expected keys and values; run the experiment again")
    return content


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        curve = read_csv(path)
    except (ValueError, OSError) as error:  # pandas' errors about contents are ValueErrors
        raise InputError(f"{path}: not a table ({str(error).splitlines()[0]}); run the experiment again") from error
    if not {"step", "acc"} <= set(curve):
        raise InputError(f"{path}: has columns {', '.join(curve.columns) or 'none'}; expected at least step and acc")
    for name, column in curve.items():
        wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        if len(wrong):
            raise InputError(f"{path}: column {name} holds {wrong.iloc[0]!r}; expected a number")
    return curve.astype(float)
