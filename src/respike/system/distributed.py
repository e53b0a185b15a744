"""The processes of a distributed job (`trainer=ddp`). Every process makes the same calls in the same order.

Before torch.distributed is initialized, and in a job of one process, the functions behave as in a single process.
"""

import os
from typing import TYPE_CHECKING, Any, TypeVar

from torch import distributed

from respike.errors import InputError
from respike.system.threads import is_multirun

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

T = TypeVar("T")


def is_initialized() -> bool:
    """Whether torch.distributed is initialized in this process."""
    return distributed.is_available() and distributed.is_initialized()


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0. Before the initialization it is read from the launcher's environment variables."""
    if is_initialized():
        return distributed.get_rank()
    from pytorch_lightning.utilities import rank_zero_only  # imported here: it takes seconds

    return rank_zero_only.rank  # type: ignore[attr-defined]


def shard_range(count: int) -> range:
    """This process's share of range(count): contiguous; the shares of all ranks, in rank order, are the whole range."""
    if not is_initialized():
        return range(count)
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def all_gather(value: T) -> list[T]:
    """The values of all processes in rank order, returned in every process."""
    if not is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def broadcast(value: T) -> T:
    """The value of rank 0, returned in every process."""
    return all_gather(value)[0]


def barrier() -> None:
    """Wait until every process has made this call."""
    if is_initialized():
        distributed.barrier()


def init_distributed(trainer: "Trainer") -> None:
    """Initialize torch.distributed, before anything is computed, if a scheduler started the processes.

    Without a scheduler Lightning starts the other processes itself, at the first fit or test, by running this process's
    command line again. Raises InputError where that is not possible (outside the command line, in a multirun), and if the
    number of processes that the scheduler started is not the number that the trainer needs.
    """
    from pytorch_lightning.plugins.environments import LightningEnvironment  # imported here: it takes seconds
    from pytorch_lightning.strategies import ParallelStrategy

    needed = trainer.num_devices * trainer.num_nodes
    if needed == 1:
        return
    if trainer._accelerator_connector.use_distributed_sampler:  # Lightning would divide the batches once more
        raise InputError(
            f"trainer.devices={trainer.num_devices} on {trainer.num_nodes} node(s): type trainer=ddp as well, by which each "
            "process gets its share of every batch"
        )
    strategy = trainer.strategy
    assert isinstance(strategy, ParallelStrategy)  # as every strategy for several processes
    if not isinstance(strategy.cluster_environment, LightningEnvironment):
        started = os.environ.get("SLURM_NTASKS") or os.environ.get("WORLD_SIZE")
        if started and int(started) != needed:
            raise InputError(
                f"trainer.devices={trainer.num_devices} on {trainer.num_nodes} node(s), but the scheduler started {started} "
                f"process(es); type hydra.launcher.tasks_per_node={trainer.num_devices} (or sbatch --ntasks-per-node)"
            )
        strategy.setup_environment()
    elif is_multirun() is None:
        raise InputError("trainer=ddp starts its processes by the command line: type python -m respike.train")
    elif is_multirun():
        raise InputError(
            "trainer=ddp starts its processes by running this command line again, with -m and all jobs; in a multirun "
            f"type hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node={trainer.num_devices}, or trainer=default"
        )
