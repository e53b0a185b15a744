"""Reads the records of an offline W&B run: a LevelDB log of protocol-buffer records behind a 7-byte header."""

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7


def _chunks(data: bytes) -> Iterator[bytes]:
    position, whole = HEADER, b""
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        whole += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


def records(run: Path) -> list[wandb_internal_pb2.Record]:
    """All records of the one .wandb file below `run`."""
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    found = []
    for chunk in _chunks(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        found.append(record)
    return found


def key(item) -> str:
    """The name of a history, summary or config item, nested or not."""
    return item.key or "/".join(item.nested_key)
