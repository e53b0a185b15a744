"""A tree of files inside a tar file, unpacked once below the user's cache folder."""

import hashlib
import json
import logging
import tarfile
from pathlib import Path

from respike.errors import InputError
from respike.system.cache import cache_folder
from respike.system.files import write_atomically

log = logging.getLogger(__name__)


def unpacked(root: Path) -> Path:
    """The folder that holds what `root` names: itself, or the contents of a tar file, alone in it or named by it.

    A changed tar file is unpacked anew. Raises InputError for one that cannot be read or kept.
    """
    tars = sorted(root.glob("*.tar")) if root.is_dir() and not (root / "train").is_dir() else []
    if len(tars) == 1:
        root = tars[0]
    if not root.is_file():
        return root
    state = root.stat()
    key = json.dumps([str(root.resolve()), state.st_size, state.st_mtime_ns])
    folder = cache_folder("unpacked") / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not folder.is_dir():
        _unpack(root, folder)
    return folder


def _unpack(file: Path, folder: Path) -> None:
    log.info("unpacking %s, once", file)
    try:
        with write_atomically(folder) as temporary, tarfile.open(file) as archive:
            archive.extractall(temporary, filter="data")
    except (tarfile.TarError, OSError) as error:
        if folder.is_dir():  # another process was faster
            return
        raise InputError(
            f"{file} cannot be unpacked to {folder.parent} ({error}); unpack it and type data.root=FOLDER"
        ) from error
