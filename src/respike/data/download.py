"""Downloads MNIST and Fashion-MNIST from torchvision's mirrors."""

import contextlib
import http.client
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from torchvision.datasets import MNIST

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # per connection attempt; a mirror has several addresses and each is tried


def download_mnist_like(source: type[MNIST], folders: Sequence[Path]) -> Path | None:
    """Download `source` into the first of `folders` that can be written. Returns that folder, or None if it failed.

    The files are downloaded to a temporary folder, checked against torchvision's md5, and then renamed into
    <folder>/<class name>/raw, so that an interrupted download leaves no incomplete data. A network failure is logged,
    not raised.
    """
    for folder in folders:
        try:
            with _temporary_folder_in(folder) as temporary:
                return folder if _download(source, folder, temporary) else None
        except OSError as error:
            log.info("%s cannot be written (%s)", folder, error)
    return None


def _download(source: type[MNIST], folder: Path, temporary: str) -> bool:
    log.info("downloading %s from %s", source.__name__, ", ".join(source.mirrors))
    try:
        with _socket_timeout(TIMEOUT_S):
            downloaded = Path(source(temporary, download=True).raw_folder)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        log.info("download failed: %s", " ".join(str(error).split()))
        return False
    raw = folder / source.__name__ / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file, _ in source.resources:
        os.replace(downloaded / Path(file).stem, raw / Path(file).stem)
    return True


@contextlib.contextmanager
def _temporary_folder_in(folder: Path) -> Iterator[str]:
    """A temporary folder inside `folder`, which is created; if it is empty afterwards, what was created is removed."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            yield temporary
    finally:
        for created in missing:
            if created.exists() and not any(created.iterdir()):
                created.rmdir()


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision sets no timeout: a network that drops packets would block for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
