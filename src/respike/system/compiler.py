"""Compiles C files with the installed C compiler, once per source and processor, into the user's cache folder."""

import ctypes
import hashlib
import json
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from respike.system.cache import cache_folder
from respike.system.files import write_atomically, write_json
from respike.system.provenance import instructions, processor

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The text of a C file and of the headers of its folder, by name; the C file is the last one.

    A module reads it when it is imported. Its structures and the code that is compiled later, perhaps in another build, then
    belong together even if the files are changed, as by a checkout, while the process runs.
    """

    texts: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> "Source":
        """The C file at this path as it is now."""
        return cls(tuple((file.name, file.read_text()) for file in [*sorted(path.parent.glob("*.h")), path]))

    @property
    def name(self) -> str:
        """Name of the C file."""
        return self.texts[-1][0]


@cache
def library(source: Source, *flags: str) -> ctypes.CDLL | None:
    """Compile a C file, with these additional compiler flags, and load it.

    Returns None, with one warning, if there is no compiler or it fails.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    options = [*FLAGS, *flags]
    content = [*(text for _, text in source.texts), *options, compiler, processor(), instructions()]
    key = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
    try:
        built = _own_folder() / f"{source.name.removesuffix('.c')}-{key}.so"
        if not _is_whole(built):
            with write_atomically(built) as temporary, tempfile.TemporaryDirectory() as folder:
                for name, text in source.texts:
                    Path(folder, name).write_text(text)
                command = [compiler, *options, source.name, "-o", str(temporary.resolve())]
                subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
                temporary.chmod(0o700)
                write_json(_digest_file(built), hashlib.sha256(temporary.read_bytes()).hexdigest())
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:1]
        log.warning(
            "%s cannot compile %s (%s): PyTorch is used instead, same results, slower", compiler, source.name, reason
        )
        return None


def _digest_file(built: Path) -> Path:
    return built.with_suffix(".sha256.json")


def _is_whole(built: Path) -> bool:
    """Whether a library is there, only this user could write it, and it is what was compiled: a cut one kills the process."""
    if not built.is_file() or not _is_only_mine(built):
        return False
    try:
        if json.loads(_digest_file(built).read_text()) == hashlib.sha256(built.read_bytes()).hexdigest():
            return True
    except (OSError, ValueError):
        pass
    log.warning("%s is damaged and is compiled again", built)
    return False


def _own_folder() -> Path:
    """The cache folder of libraries, which nobody else can write; a temporary one if it cannot be had."""
    folder = cache_folder("kernels")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
            return folder
        reason = "it belongs to another user"
    except OSError as error:
        reason = str(error.strerror)
    log.warning("compiled code is not kept in %s: %s", folder, reason)
    return Path(_temporary_folder().name)


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="respike-kernels-")


def _is_only_mine(path: Path) -> bool:
    """Whether a file or folder belongs to this user, and neither its group nor others can write it."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _compiler() -> str | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("no C compiler found (cc, gcc, clang): PyTorch is used instead, same results, slower")
    return compiler
