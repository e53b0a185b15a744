"""Finished stages of a run, kept by content: the same data, network, recipe and seed are trained, converted once.

A stage is a folder named by the hash of its key. It is made under another name and renamed when it is whole; a
training that was interrupted leaves its last epoch there and goes on from it. Two processes that want the same stage
make it once: the second waits for the first. Processes that run one job together (ranks.py) make it together: rank 0
alone waits for other jobs, looks whether it is there, and renames.
"""

import contextlib
import hashlib
import inspect
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from respike.system.distributed import first_decides, rank, wait

log = logging.getLogger(__name__)
VERSION = 1  # of what a stage holds; a higher one makes every stage anew


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, the seconds it took when it was made, and whether that was now."""

    folder: Path
    seconds: float
    fresh: bool


def stage_hash(key: dict[str, Any]) -> str:
    """16 hex digits that tell one stage from another."""
    text = json.dumps({"version": VERSION, **key}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def once(root: Path, key: dict[str, Any], make: Callable[[Path], float]) -> Stage:
    """The stage of this key under `root`, made by `make(folder)` if there is none yet; make returns its seconds.

    `make` finds in its folder what an interrupted earlier call left there. Of several ranks all call it.
    """
    folder = root / stage_hash(key)
    root.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        finished = folder / "stage.json"
        unfinished = folder.with_name(folder.name + ".unfinished")
        if rank() == 0 and not finished.is_file() and (unfinished / "stage.json").is_file():
            unfinished.rename(folder)  # whole, but not yet renamed when the power went
        if first_decides(finished.is_file()):
            return Stage(folder, json.loads(finished.read_text())["seconds"], False)
        unfinished.mkdir(exist_ok=True)
        seconds = make(unfinished)
        if rank() == 0:
            part = unfinished / "stage.part"
            part.write_text(json.dumps({"seconds": seconds, "key": key}, indent=1, default=str))
            part.rename(unfinished / "stage.json")
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        wait()
        return Stage(folder, seconds, True)


def source_hash(*rooms: str) -> str:
    """Of the code of some rooms, which decides what a stage gives."""
    files = sorted(
        file
        for room in rooms
        for end in ("py", "c", "h")
        for file in (Path(__file__).parents[1] / room).rglob(f"*.{end}")
    )
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def module_source(net: nn.Module) -> str:
    """Hash of the file that defines the network's class."""
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(type(net))).encode()).hexdigest()
    except (OSError, TypeError):  # a class typed into a notebook or a shell has no file
        return ""


def network_key(net: nn.Module) -> dict[str, str]:
    """What a network is: its layers, its code and its weights."""
    weights = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"net": repr(net), "code": module_source(net), "weights": weights.hexdigest()}


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if rank() > 0:
        yield
    else:
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("waiting for another process that makes the same stage (%s)", lock.lock_file)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
