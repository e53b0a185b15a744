"""A lock for the folder of a job of a sweep, or of a row of a preset: two commands that run the same do not mix its files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from respike.system.cache import acquire
from respike.system.distributed import rank


@contextlib.contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """One process at a time, with its ranks, works in the folder of a run. Others wait, and say so in one line."""
    if rank() > 0:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    acquire(lock, "runs the same job")
    try:
        yield
    finally:
        lock.release()
