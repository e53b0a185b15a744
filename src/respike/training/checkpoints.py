"""Checkpoints of an unfinished training: written whole or not at all, and read without running code of the file."""

import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from respike.system.files import write_atomically

log = logging.getLogger(__name__)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's own class copies from the system's temporary folder: a full disk leaves a truncated file.

    It also unpickles what it reads. Raises OSError if there is no room.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Write the checkpoint beside `path` and rename it."""
        content = io.BytesIO()  # written to a file by torch, a full disk is a RuntimeError without its cause
        torch.save(checkpoint, content)
        with write_atomically(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint of plain data and tensors, whatever `weights_only` is."""
        return torch.load(path, map_location=map_location, weights_only=True)


def resume_from(folder: Path, others: tuple[str, ...]) -> Path | None:
    """folder/last.ckpt, from which a training continues; None if it starts from the beginning.

    others: further files that the rest of the training needs. If one of them or last.ckpt cannot be read, last.ckpt is set
    aside as last.ckpt.damaged. What a killed process left half-written is removed.
    """
    for leftover in folder.glob(".*.partial"):
        leftover.unlink()
    last = folder / "last.ckpt"
    if not last.is_file():
        return None
    for file in (last, *(folder / name for name in others)):
        try:
            torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # torch raises a different error for each way in which a file can be broken
            log.warning(
                "%s is damaged (%s): last.ckpt is set aside as last.ckpt.damaged, and the training starts again",
                file, type(error).__name__,
            )  # fmt: skip
            last.replace(last.with_name("last.ckpt.damaged"))
            return None
    return last
