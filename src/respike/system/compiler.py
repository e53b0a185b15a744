"""Compiles C files with the machine's own compiler, once per source and processor, into the user's cache."""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from respike.system.files import write_atomically
from respike.system.provenance import processor
from respike.system.user_cache import cache_folder

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")
log = logging.getLogger(__name__)


@cache
def library(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The library compiled from a C file, which may include the headers beside it, with these flags of the compiler.

    None (said once) where there is no compiler or it fails.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    sources, flags = [*sorted(source.parent.glob("*.h")), source], [*FLAGS, *flags]
    content = [*(file.read_text() for file in sources), *flags, compiler, processor()]
    key = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
    built = cache_folder("kernels") / f"{source.stem}-{key}.so"
    try:
        if not built.is_file():
            with write_atomically(built) as temporary:
                command = [compiler, *flags, str(source), "-o", str(temporary)]
                subprocess.run(command, check=True, capture_output=True, text=True)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:1]
        log.warning(
            "%s cannot build %s (%s): plain PyTorch instead, same result, slower", compiler, source.name, reason
        )
        return None


@cache
def _compiler() -> str | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("no C compiler (cc, gcc, clang): plain PyTorch instead, with the same result, slower")
    return compiler
