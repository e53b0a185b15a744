"""Fetches the MNIST-like data sets from torchvision's mirrors."""

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


def fetch(source: type[MNIST], folders: Sequence[Path]) -> Path | None:
    """Download `source` into the first of `folders` that can be written; that folder, or None where nothing came.

    The files arrive in a temporary folder, are checked against torchvision's md5 there, and are then renamed into
    <folder>/<class name>/raw, so an interrupted download leaves nothing that looks like data. Never raises for a
    network that is not there: the reason is logged.
    """
    for folder in folders:
        try:
            with _scratch_in(folder) as scratch:
                return folder if _fetch_into(source, folder, scratch) else None
        except OSError as error:
            log.info("%s cannot be written (%s)", folder, error)
    return None


def _fetch_into(source: type[MNIST], folder: Path, scratch: str) -> bool:
    log.info("downloading %s from %s", source.__name__, ", ".join(source.mirrors))
    try:
        with _timeout(TIMEOUT_S):
            arrived = Path(source(scratch, download=True).raw_folder)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        log.info("download failed: %s", " ".join(str(error).split()))
        return False
    raw = folder / source.__name__ / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file, _ in source.resources:
        os.replace(arrived / Path(file).stem, raw / Path(file).stem)
    return True


@contextlib.contextmanager
def _scratch_in(folder: Path) -> Iterator[str]:
    """A temporary folder inside `folder`; folders made for it go again if nothing is put in them."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            yield scratch
    finally:
        for made in missing:
            if made.exists() and not any(made.iterdir()):
                made.rmdir()


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """torchvision sets no timeout on its connections: a network that drops packets would hang for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
