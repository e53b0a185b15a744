"""Processes that run one job together, as `trainer=ddp` starts them: each has a rank, and all make the same calls.

With a single process, or before they have found each other, these functions answer for a single one.
"""

from typing import Any, TypeVar

from torch import distributed

T = TypeVar("T")


def together() -> bool:
    """Whether this process has found the others."""
    return distributed.is_available() and distributed.is_initialized()


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if together() else 1


def rank() -> int:
    """Which of them this is. Known from the environment before they have found each other."""
    if together():
        return distributed.get_rank()
    from pytorch_lightning.utilities import rank_zero_only  # seconds, which a network alone need not spend

    return rank_zero_only.rank


def share(count: int) -> range:
    """Which of `count` things are this process's: a run of neighbours, so that parts in rank order are the whole."""
    first, last = (count * r // world() for r in (rank(), rank() + 1)) if together() else (0, count)
    return range(first, last)


def gather(part: T) -> list[T]:
    """The parts of all processes in rank order, in every process."""
    if not together():
        return [part]
    parts: list[Any] = [None] * world()
    distributed.all_gather_object(parts, part)
    return parts


def first_decides(value: T) -> T:
    """Rank 0's value, in every process."""
    return gather(value)[0]


def wait() -> None:
    """Until every process is here."""
    if together():
        distributed.barrier()
