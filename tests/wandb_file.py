"""Reads the records of an offline W&B run: a LevelDB log of protocol-buffer records behind a 7-byte header."""

import struct
import time
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
    """All records of the one .wandb file below `run`. Another process writes the last ones after the run has finished."""
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    found = _read(file)
    for _ in range(50):
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            break
        time.sleep(0.1)
        found = _read(file)
    return found


def _read(file: Path) -> list[wandb_internal_pb2.Record]:
    found = []
    for chunk in _chunks(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        found.append(record)
    return found


def key(item) -> str:
    """The name of a history, summary or config item, nested or not."""
    return item.key or "/".join(item.nested_key)
