"""Compiles C files with the installed C compiler, once per source and processor, into the user's cache folder."""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from respike.system.cache import cache_folder
from respike.system.files import write_atomically
from respike.system.provenance import processor

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")
log = logging.getLogger(__name__)


@cache
def library(source: Path, *flags: str) -> ctypes.CDLL | None:
    """Compile a C file, with these additional compiler flags, and load it. It may include headers of its own folder.

    Returns None, with one warning, if there is no compiler or it fails.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    sources, options = [*sorted(source.parent.glob("*.h")), source], [*FLAGS, *flags]
    content = [*(file.read_text() for file in sources), *options, compiler, processor()]
    key = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
    built = cache_folder("kernels") / f"{source.stem}-{key}.so"
    try:
        if not built.is_file():
            with write_atomically(built) as temporary:
                command = [compiler, *options, str(source), "-o", str(temporary)]
                subprocess.run(command, check=True, capture_output=True, text=True)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:1]
        log.warning(
            "%s cannot compile %s (%s): PyTorch is used instead, same results, slower", compiler, source.name, reason
        )
        return None


@cache
def _compiler() -> str | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("no C compiler found (cc, gcc, clang): PyTorch is used instead, same results, slower")
    return compiler
