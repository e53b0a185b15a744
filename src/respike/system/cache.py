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
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from torch import nn

from respike.errors import InputError
from respike.system.distributed import all_gather, barrier, broadcast, is_initialized, rank
from respike.system.files import write_atomically

log = logging.getLogger(__name__)
VERSION = 2  # of the contents of a stage; after an increase every stage is made again
SOURCES = (".py", ".c", ".h")
DAMAGE = (InputError, OSError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)
Loaded = TypeVar("Loaded")


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


def cached(
    root: Path, key: dict[str, Any], make: Callable[[Path], float], load: Callable[[Path], Loaded]
) -> tuple[Loaded, Stage]:
    """The stage with this key under `root`, and what `load(folder)` reads from it. `make(folder)` fills a missing one.

    make: returns the seconds it took; it may find in its folder what an interrupted earlier call left there. load: raises
    one of DAMAGE for files that it cannot read; the stage is then set aside, as "<hash>.damaged", and made again.
    In a distributed job every process must call this function. Raises InputError if a stage has to be made and `root` cannot be
    written.
    """
    folder = root / stage_hash(key)
    with _lock(folder):
        seconds = broadcast(_seconds(folder))
        if seconds is not None:
            try:
                loaded, error = load(folder), None
            except DAMAGE as damage:
                error = damage
            if not any(all_gather(error is not None)):
                return loaded, Stage(folder, seconds, False)
            _set_aside(folder, error)
        unfinished = folder.with_name(folder.name + ".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        seconds = make(unfinished)
        if rank() == 0:
            with write_atomically(unfinished / "stage.json") as temporary:
                temporary.write_text(json.dumps({"seconds": seconds, "key": key}, indent=1, default=str))
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        barrier()
        return load(folder), Stage(folder, seconds, True)


def measured_once(
    root: Path | None,
    key: dict[str, Any],
    measure: Callable[[], Loaded],
    save: Callable[[Loaded, Path], None],
    load: Callable[[Path], Loaded],
) -> tuple[Loaded, float, bool]:
    """What `measure()` returns, the seconds that it took, and whether an earlier call took them: see `cached`.

    save: writes the value into a folder, on rank 0 alone; load: reads it on every rank. root: None measures at every call.
    """
    if root is None:
        start = time.perf_counter()
        return measure(), time.perf_counter() - start, False

    def make(folder: Path) -> float:
        start = time.perf_counter()
        value = measure()
        if rank() == 0:
            save(value, folder)
        return time.perf_counter() - start

    loaded, stage = cached(root, key, make, load)
    return loaded, stage.seconds, not stage.fresh


def _seconds(folder: Path) -> float | None:
    """The seconds that a finished stage took to make; None if there is none. A damaged stage is set aside.

    Rank 0 alone looks, and tells the others. A process that Lightning starts at the first fit or test cannot be told before it:
    it looks itself, at what rank 0 has left.
    """
    if rank() > 0 and is_initialized():
        return None
    unfinished = folder.with_name(folder.name + ".unfinished")
    if rank() == 0 and not (folder / "stage.json").is_file() and (unfinished / "stage.json").is_file():
        unfinished.rename(folder)  # complete, but the process died before the rename
    try:
        return float(json.loads((folder / "stage.json").read_text(encoding="utf-8"))["seconds"])
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        _set_aside(folder, error)
        return None


def _set_aside(folder: Path, error: Exception | None) -> None:
    """Rename a damaged stage to "<hash>.damaged", in place of an older one."""
    if rank() == 0:
        reason = " ".join(str(error or "damaged on another process").split())
        aside = folder.with_name(folder.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            folder.rename(aside)
        except OSError as refused:
            raise InputError(
                f"{folder} is damaged ({reason}), and cannot be set aside ({refused.strerror}); type paths.stages=FOLDER"
            ) from refused
        log.warning("%s is damaged (%s): it is set aside as %s.damaged and made again", folder, reason, folder.name)


_own: list[str] = []  # see `depend_on`


def depend_on(code: Sequence[str]) -> None:
    """Make all stages of this process, from now on, depend on this code too, in place of what an earlier call gave.

    code: hashes of what is not respike's: a user's loss, data set, conversion, callback.
    """
    _own[:] = sorted(code)


# Subpackages and files of respike whose code decides what a cached thing holds.
CODE = {
    "training": ("training", "networks", "data"),
    "spiking training": ("training", "networks", "data", "neurons", "layers", "system/precision.py"),
    "spike-time training": ("training", "networks", "data", "convert"),
    "conversion": ("convert", "networks", "data", "neurons", "layers", "simulate"),
    "train_acc": ("networks", "data", "callbacks/train_accuracy.py"),
    "relu pass": (
        "networks", "data", "callbacks/relu_pass.py", "metrics/operations.py", "convert/graph", "simulate/connections.py",
    ),
    "run": (
        "training", "networks", "data", "neurons", "layers", "convert", "simulate", "metrics", "callbacks", "train.py",
        "runs/folder.py", "runs/protocol.py", "system/precision.py", "system/compiler.py",
    ),
}  # fmt: skip


def code_hash(kind: str) -> str:
    """Hash of the Python and C files that decide what a stage, or a run, of this kind holds. kind: a key of CODE.

    A stage's has the code of `depend_on` in it; a run's has none, since `run_code` of its folder adds it.
    """
    root = Path(__file__).parents[1]
    listed = [root / name for name in CODE[kind]]
    files = sorted(
        file for path in listed for file in ([path] if path.is_file() else path.rglob("*")) if file.suffix in SOURCES
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    for own in _own if kind != "run" else ():
        digest.update(own.encode())
    return digest.hexdigest()


def source_hash(defined: object) -> str:
    """Hash of the file that defines a class or function; "" if it was defined in a notebook or a shell."""
    module = inspect.getmodule(defined)
    if module is None:
        return ""
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


def network_code(net: nn.Module) -> list[str]:
    """Hashes of the files that define the network and the modules in it, except torch's own."""
    kinds = {type(module) for module in net.modules()}
    own = sorted(
        (kind for kind in kinds if not kind.__module__.startswith("torch.")),
        key=lambda kind: (kind.__module__, kind.__qualname__),
    )
    return [source_hash(kind) for kind in own]


def network_key(net: nn.Module) -> dict[str, str | list[str]]:
    """What identifies a network in a stage's key: its layers, its code and its weights."""
    weights = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"net": repr(net), "code": network_code(net), "weights": weights.hexdigest()}


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time makes or reads the stage. In a folder that cannot be written a finished stage needs no lock."""
    if rank() > 0:
        yield
        return
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        acquire(lock, "makes the same stage")
    except OSError as error:
        if not (folder / "stage.json").is_file():
            raise InputError(
                f"paths.stages={folder.parent}: cannot be written ({error.strerror}); type paths.stages=FOLDER"
            ) from error
        yield
        return
    try:
        yield
    finally:
        lock.release()


def acquire(lock: FileLock, work: str) -> None:
    """Take a lock, however long another process has it; says after a second what that one does, as "makes the same stage"."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.info("waiting for another process that %s (%s)", work, lock.lock_file)
        lock.acquire()


def cache_folder(name: str) -> Path:
    """The folder `name` below respike's folder in the user's cache ($XDG_CACHE_HOME, else ~/.cache). It may not exist yet.

    For files that can be made again: downloads without a writable data folder, decoded images, compiled kernels. Of a user
    without a home folder, as in some containers, it is a temporary one.
    """
    base = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if base.startswith("~"):
        base = os.path.join(tempfile.gettempdir(), f"respike-{os.getuid()}")  # not another user's
    return Path(base, "respike", name)


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
