"""Where files go that can be made again: downloads without a writable data folder, decoded and drawn images."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from respike.system.files import write_atomically

log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """`name` below the user's cache folder ($XDG_CACHE_HOME, else ~/.cache). It need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "respike" / name


def kept_bytes(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes of `make()`, from `path` if they are there already; behind their sha256, so that damage is seen.

    A damaged file is made again; where none can be written the bytes are made each time.
    """
    try:
        digest, content = (held := path.read_bytes())[:32], held[32:]
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
        log.info("%s cannot be kept (%s)", path, error.strerror)
    return content
