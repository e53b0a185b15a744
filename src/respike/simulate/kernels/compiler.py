"""Compiles events.c with the machine's own compiler, once per source and processor, into the user's cache."""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from respike.data.cache import cache_folder
from respike.provenance import processor

HERE = Path(__file__).parent
SOURCES = ("neuron.h", "layers.h", "events.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")
log = logging.getLogger(__name__)


@cache
def events_library(wide: bool = False) -> ctypes.CDLL | None:
    """The compiled library, or None (said once) where there is no compiler or it fails.

    wide: weights of up to 24 bits and sums of up to 63, instead of 16 and 31.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    flags = (*FLAGS, "-DWIDE") if wide else FLAGS
    key = hashlib.sha256(
        "\n".join([*((HERE / name).read_text() for name in SOURCES), *flags, compiler, processor()]).encode()
    ).hexdigest()[:16]
    library = cache_folder("kernels") / f"events-{key}.so"
    try:
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            part = library.with_suffix(f".{os.getpid()}.part")
            subprocess.run(
                [compiler, *flags, str(HERE / SOURCES[-1]), "-o", str(part)], check=True, capture_output=True, text=True
            )
            part.replace(library)
        loaded = ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:1]
        log.warning(
            "%s cannot build the fast simulation (%s): plain PyTorch instead, same result, slower", compiler, reason
        )
        return None
    loaded.events_scratch.restype = ctypes.c_int64
    return loaded


@cache
def _compiler() -> str | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning(
            "no C compiler (cc, gcc, clang): the simulation runs in plain PyTorch, with the same result, slower"
        )
    return compiler
