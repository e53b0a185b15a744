"""Runs of a W&B project as runs to compare. Downloading needs a network and an account.

`to_run` is tested on plain objects shaped like those of `wandb.Api`; `project_runs` itself has not been run online.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from respike.errors import InputError
from respike.report.collect import REQUIRED_METRICS, Run

CURVE = ("step", "time_ms", "acc", "agreement", "spikes_per_image")


class WandbRun(Protocol):
    """What is read of a `wandb.apis.public.Run`."""

    id: str
    state: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    created_at: str

    def scan_history(self, keys: list[str]) -> Iterable[Mapping[str, Any]]:
        """Rows that have all of the keys."""


def project_runs(project: str) -> tuple[list[Run], dict[str, str]]:
    """Finished runs of "entity/project", and the others with the reason why they are left out.

    Raises InputError when the project cannot be read.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise InputError(f"--wandb {project}: expected entity/project, as in the address wandb.ai/entity/project")
    import wandb

    try:
        found = list(wandb.Api(timeout=30).runs(project))
    except Exception as error:  # of wandb, of requests or of the network, each with its own base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"--wandb {project}: cannot be read ({reason}); it needs a network and `wandb login`. "
            "Without them give the run folders"
        ) from error
    runs, skipped = [], {}
    for run in found:
        try:
            runs.append(to_run(run, project))
        except InputError as error:
            skipped[f"{project}/{run.id}"] = str(error)
    return runs, skipped


def to_run(source: WandbRun, project: str) -> Run:
    """A W&B run as if its folder had been read; its path is entity/project/id.

    Raises InputError when it is unfinished or was not logged by this package.
    """
    path = Path(project, source.id)
    if source.state != "finished":
        raise InputError(f"{path}: state {source.state}, not finished")
    config = {key: value for key, value in source.config.items() if key != "facts"}
    facts = source.config.get("facts") or {}
    metrics = {
        key: _plain(value) for key, value in source.summary.items() if not key.startswith(("_", "sim/", "figures/"))
    }
    metrics = {key: value for key, value in metrics.items() if value is not None} | dict(facts)
    missing = [name for name in REQUIRED_METRICS if name not in metrics]
    if missing:
        raise InputError(f"{path}: its config has no facts/{missing[0]}; only runs logged by respike can be compared")
    return Run(path, config, metrics, _curve(source), {"started": source.created_at})


def _curve(source: WandbRun) -> dict[str, list[float]]:
    rows = sorted(source.scan_history(keys=[f"sim/{name}" for name in CURVE]), key=lambda row: row["sim/step"])
    if not rows:
        return {}
    return {name: [float(row[f"sim/{name}"]) for row in rows] for name in CURVE}


def _plain(value: Any) -> float | int | str | None:
    """Numbers and texts as they are, else None (histograms, images, tables)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | str) else None
