"""Runs of a W&B project as runs to compare. Downloading needs a network and an account.

`to_record` is tested on plain objects shaped like those of `wandb.Api`; `project_runs` itself has not been run online.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from respike.errors import InputError
from respike.report.runs import REQUIRED_METRICS, is_number, record_of

CURVE = ("step", "time_ms", "acc", "agreement", "spikes_per_image")
DIRECT_CURVE = ("step", "acc", "spikes_per_image")  # steps without a length, no network to agree with


class WandbRun(Protocol):
    """What is read of a `wandb.apis.public.Run`."""

    id: str
    state: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    created_at: str

    def scan_history(self, keys: list[str]) -> Iterable[Mapping[str, Any]]:
        """Rows that have all of the keys."""


def project_runs(project: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Records of the finished runs of "entity/project", and the others with the reason why they are left out.

    Raises InputError when the project cannot be read.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise InputError(f"--wandb {project}: expected entity/project, as in the address wandb.ai/entity/project")
    import wandb

    try:
        found = list(wandb.Api(timeout=30).runs(project))
    except Exception as error:  # wandb, requests and the network have no common base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"--wandb {project}: cannot be read ({reason}); it needs a network and `wandb login`. "
            "Without them give the run folders"
        ) from error
    runs, skipped = [], {}
    for run in found:
        try:
            runs.append(to_record(run, project))
        except InputError as error:
            skipped[f"{project}/{run.id}"] = str(error)
    return runs, skipped


def to_record(source: WandbRun, project: str) -> dict[str, Any]:
    """The record of a W&B run, as if its folder had been read; its path is entity/project/id.

    Raises InputError when it is unfinished or was not logged by this package.
    """
    path = Path(project, source.id)
    if source.state != "finished":
        raise InputError(f"{path}: state {source.state}, not finished")
    config = {key: value for key, value in source.config.items() if key != "facts"}
    facts = source.config.get("facts") or {}
    summary = {
        key: _plain(value) for key, value in source.summary.items() if not key.startswith(("_", "sim/", "figures/"))
    }
    metrics = {key: value for key, value in summary.items() if value is not None} | dict(facts)
    missing = [name for name in REQUIRED_METRICS if name not in metrics]
    if missing:
        raise InputError(f"{path}: its config has no facts/{missing[0]}; only runs logged by respike can be compared")
    return record_of(path, config, metrics, _curve(source), {"started": source.created_at})


def _curve(source: WandbRun) -> pd.DataFrame:
    for columns in (CURVE, DIRECT_CURVE):  # rows that lack one of the keys are not returned
        rows = list(source.scan_history(keys=[f"sim/{name}" for name in columns]))
        if rows:
            curve = pd.DataFrame(rows).rename(columns=lambda name: name.removeprefix("sim/"))
            return curve[list(columns)].astype(float).sort_values("step", ignore_index=True)
    return pd.DataFrame()


def _plain(value: Any) -> float | int | str | None:
    """Finite numbers and texts as they are, else None (histograms, images, tables)."""
    return value if is_number(value) or isinstance(value, bool | str) else None
