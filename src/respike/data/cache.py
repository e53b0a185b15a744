"""Where files go that can be made again: downloads without a writable data folder, decoded images."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """`name` below the user's cache folder ($XDG_CACHE_HOME, else ~/.cache). It need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "respike" / name
