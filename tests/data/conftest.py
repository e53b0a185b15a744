"""A cache folder of each test's own, and small files in MNIST's format."""

import struct

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keeps the tests from the cache folder of whoever runs them, and from their proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def write_idx():
    """write(root, name) makes root/name/raw: 20 + 10 images of random pixels. Returns {file name: array}."""

    def write(root, name="MNIST"):
        random, arrays = np.random.default_rng(0), {}
        for part, count in (("train", 20), ("t10k", 10)):
            arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
        raw = root / name / "raw"
        raw.mkdir(parents=True)
        for file, array in arrays.items():
            header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
            (raw / file).write_bytes(header + array.tobytes())
        return arrays

    return write
