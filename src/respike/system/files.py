"""Files that are written whole or not at all, and the formats of a run's tables: CSV and JSON."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


@contextlib.contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; what is written there becomes `path` when the block ends.

    Works for a file and for a folder (an existing folder is not replaced: OSError). Missing parent folders are created.
    If the block raises, the temporary file or folder is removed and `path` is left as it was. A reader sees the old
    content or the new one, never a part of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_json(path: Path | str, content: Any) -> None:
    """Write `content` as indented JSON, atomically. Numbers, strings, lists and dicts only."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path | str, table: pd.DataFrame | Mapping[str, Sequence] | Sequence[Mapping[str, Any]]) -> None:
    """Write a table with a header line, atomically: a DataFrame, columns by name, or one mapping per row.

    Missing values and NaN are empty cells. Numbers are written such that `read_csv` returns the same numbers.
    """
    frame = pd.DataFrame(table).astype(object) if isinstance(table, pd.DataFrame) else pd.DataFrame(table, dtype=object)
    with write_atomically(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a table with a header line; empty cells are NaN. A file without any line gives an empty table."""
    try:
        return pd.read_csv(path, float_precision="round_trip", encoding="utf-8")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
