"""How many threads a job uses, so that jobs which run at the same time share the cores of their machine."""

import os
from collections.abc import Mapping

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from respike.errors import InputError


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_multirun() -> bool | None:
    """Whether this is a job of a multirun; None if the process was not started by Hydra's command line."""
    return HydraConfig.get().mode == RunMode.MULTIRUN if HydraConfig.initialized() else None


def job_threads(launcher: Mapping, environment: Mapping[str, str], cores: int) -> int | None:
    """Number of threads for one of many jobs; None for a single job, which keeps torch's default.

    launcher: the chosen hydra.launcher. The environment variables OMP_NUM_THREADS and SLURM_CPUS_PER_TASK take
    precedence over the launcher's settings.
    """
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        if environment.get(name, "").isdigit():
            return max(1, int(environment[name]))
    if launcher.get("cpus_per_task"):
        return int(launcher["cpus_per_task"])
    jobs = launcher.get("n_jobs")
    if jobs is None:
        return None
    if jobs < 0:  # joblib: -1 is all cores, -2 all but one
        jobs = max(1, cores + 1 + jobs)
    return max(1, cores // jobs)


def set_threads(threads: int | str) -> None:
    """Set torch's number of threads: a number, or "auto" for this job's share of the cores. Results do not depend on it.

    Raises InputError for anything else.
    """
    if threads == "auto":
        number = job_threads(HydraConfig.get().launcher if is_multirun() else {}, os.environ, cores())
    elif isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1:
        number = threads
    else:
        raise InputError(f"threads={threads}: a number from 1 up, or threads=auto for this job's share of the cores")
    if number is not None:
        torch.set_num_threads(number)
