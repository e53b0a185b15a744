"""Two caches: finished stages of a run (a training, a conversion) under `paths.stages`, and files in the user's cache folder.

A stage is a folder named by the hash of its key: the same data, network, recipe, seed and code are trained and converted
once. `make` fills a folder "<hash>.unfinished", which is renamed when it is complete; an interrupted training leaves its
last epoch there and resumes from it. A file lock makes a second process wait for the first. The processes of one
distributed job make a stage together: rank 0 alone takes the lock, checks for the stage and renames the folder.
"""

import contextlib
import hashlib
import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from respike.system.distributed import barrier, broadcast, rank
from respike.system.files import write_atomically

log = logging.getLogger(__name__)
VERSION = 1  # of the contents of a stage; after an increase every stage is made again


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    folder: its files; seconds: the time it took to make; fresh: True if this call made it, False if it was cached.
    """

    folder: Path
    seconds: float
    fresh: bool


def stage_hash(key: dict[str, Any]) -> str:
    """16 hex digits, the name of the folder of the stage with this key."""
    text = json.dumps({"version": VERSION, **key}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(root: Path, key: dict[str, Any], make: Callable[[Path], float]) -> Stage:
    """Return the stage with this key under `root`; if there is none, `make(folder)` fills its folder.

    make: returns the seconds it took; it may find in its folder what an interrupted earlier call left there.
    In a distributed job every process must call this function.
    """
    folder = root / stage_hash(key)
    root.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        finished = folder / "stage.json"
        unfinished = folder.with_name(folder.name + ".unfinished")
        if rank() == 0 and not finished.is_file() and (unfinished / "stage.json").is_file():
            unfinished.rename(folder)  # complete, but the process died before the rename
        if broadcast(finished.is_file()):
            return Stage(folder, json.loads(finished.read_text())["seconds"], False)
        unfinished.mkdir(exist_ok=True)
        seconds = make(unfinished)
        if rank() == 0:
            with write_atomically(unfinished / "stage.json") as temporary:
                temporary.write_text(json.dumps({"seconds": seconds, "key": key}, indent=1, default=str))
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        barrier()
        return Stage(folder, seconds, True)


def source_hash(*packages: str) -> str:
    """Hash of the Python and C files of some subpackages of respike, for the keys of stages that their code computes."""
    files = sorted(
        file
        for package in packages
        for suffix in ("py", "c", "h")
        for file in (Path(__file__).parents[1] / package).rglob(f"*.{suffix}")
    )
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def module_source(net: nn.Module) -> str:
    """Hash of the file that defines the network's class; "" if the class was defined in a notebook or a shell."""
    module = inspect.getmodule(type(net))
    if module is None:
        return ""
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


def network_key(net: nn.Module) -> dict[str, str]:
    """What identifies a network in a stage's key: its layers, its code and its weights."""
    weights = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"net": repr(net), "code": module_source(net), "weights": weights.hexdigest()}


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if rank() > 0:
        yield
        return
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


def cache_folder(name: str) -> Path:
    """The folder `name` below respike's folder in the user's cache ($XDG_CACHE_HOME, else ~/.cache). It may not exist yet.

    For files that can be made again: downloads without a writable data folder, decoded images, compiled kernels.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "respike" / name


def cached_bytes(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes that `make()` returns, read from `path` if it holds them.

    The file begins with the bytes' sha256. A damaged file is made again; if `path` cannot be written, `make` is called
    each time.
    """
    try:
        file = path.read_bytes()
        digest, content = file[:32], file[32:]
        if hashlib.sha256(content).digest() == digest:
            return content
        log.warning("%s is damaged and is made again", path)
    except OSError:
        pass
    content = make()
    try:
        with write_atomically(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.info("%s cannot be written (%s)", path, error.strerror)
    return content
