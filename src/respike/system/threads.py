"""What a job takes of its machine: threads, so that many jobs do not fight, and processes, which must be able to meet."""

import os
from collections.abc import Mapping

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment

from respike.errors import InputError


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def job_threads(launcher: Mapping, environment: Mapping[str, str], cores: int) -> int | None:
    """Threads of one of many jobs; None where there is one job, which may use what torch would.

    launcher: the chosen hydra.launcher. What the scheduler or the person allots goes before the launcher's own numbers.
    """
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        if environment.get(name, "").isdigit():
            return max(1, int(environment[name]))
    if launcher.get("cpus_per_task"):
        return int(launcher["cpus_per_task"])
    at_once = launcher.get("n_jobs")
    if at_once is None:
        return None
    at_once = max(1, cores + 1 + at_once) if at_once < 0 else at_once  # joblib: -1 is all cores, -2 all but one
    return max(1, cores // at_once)


def set_threads(threads: int | str) -> None:
    """Give this process its threads: a number, or "auto", its share of the cores. No result depends on it.

    Raises InputError for anything else.
    """
    if threads == "auto":
        launcher = HydraConfig.get().launcher if HydraConfig.initialized() and _multirun() else {}
        allotted = job_threads(launcher, os.environ, cores())
    elif isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1:
        allotted = threads
    else:
        raise InputError(f"threads={threads}: a number from 1 up, or threads=auto for this job's share of the cores")
    if allotted is not None:
        torch.set_num_threads(allotted)


def _multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def meet(trainer: Trainer) -> None:
    """Let the processes that a scheduler started find each other; Lightning starts others itself, at the first fit or test.

    Raises InputError where it could not: it starts them by this process's command line, once more.
    """
    wanted = trainer.num_devices * trainer.num_nodes
    if wanted == 1:
        return
    environment = trainer.strategy.cluster_environment
    started = os.environ.get("SLURM_NTASKS") or os.environ.get("WORLD_SIZE")
    if not isinstance(environment, LightningEnvironment):
        if started and int(started) != wanted:
            raise InputError(
                f"trainer.devices={trainer.num_devices} on {trainer.num_nodes} node(s), but the scheduler started {started} "
                f"process(es); type hydra.launcher.tasks_per_node={trainer.num_devices} (or sbatch --ntasks-per-node)"
            )
        trainer.strategy.setup_environment()
    elif not HydraConfig.initialized():
        raise InputError("several processes (trainer=ddp) start by the command line: run python -m respike.train")
    elif _multirun():
        raise InputError(
            "trainer=ddp starts its processes by this command line again, -m and all other jobs included; in a multirun "
            f"type hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node={trainer.num_devices}, or trainer=default"
        )
