"""Downloads, from a mirror on this machine: whole or not at all, and never for long."""

import functools
import gzip
import hashlib
import http.server
import socket
import threading
import time

import pytest
from torchvision import datasets as published

from respike.data import download
from respike.data.datasets import fashion_mnist
from respike.errors import InputError


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Nothing: requests are expected."""


@pytest.fixture
def mirror(tmp_path, monkeypatch, write_idx):
    """A folder served as the only mirror of Fashion-MNIST, holding a small set that passes for it."""
    served = tmp_path / "served"
    resources = []
    for name in write_idx(served, "FashionMNIST"):
        packed = served / f"{name}.gz"
        packed.write_bytes(gzip.compress((served / "FashionMNIST" / "raw" / name).read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
    handler = functools.partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(published.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(published.FashionMNIST, "resources", resources)
        yield served
        server.shutdown()
        thread.join()


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_download_leaves_the_four_files_and_nothing_else(mirror, tmp_path):
    root = tmp_path / "new" / "data"
    images = fashion_mnist(root)
    assert images.reduced is None
    assert images.sha256 == fashion_mnist(mirror, download=False).sha256
    assert tree(root) == [name for name in tree(mirror) if not name.endswith(".gz")]
    assert list(root.iterdir()) == [root / "FashionMNIST"]


def test_a_missing_file_is_fetched_into_a_folder_that_has_the_others(mirror, tmp_path, write_idx):
    write_idx(tmp_path / "root", "FashionMNIST")
    (tmp_path / "root" / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert fashion_mnist(tmp_path / "root").sha256 == fashion_mnist(mirror, download=False).sha256


@pytest.mark.parametrize("broken", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_half_written_download_leaves_nothing(mirror, tmp_path, broken):
    packed = mirror / f"{broken}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InputError, match="none could be downloaded"):
        fashion_mnist(tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_root_that_cannot_be_written_sends_the_download_to_the_cache(mirror, tmp_path):
    root = tmp_path / "a file"
    root.write_text("not a folder")
    first = fashion_mnist(root)
    for packed in mirror.glob("*.gz"):
        packed.unlink()
    assert fashion_mnist(root).sha256 == first.sha256, "the second call must find the first one's download"


def test_a_mirror_that_never_answers_is_given_up(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(published.FashionMNIST, "mirrors", [address])
        monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
        began = time.monotonic()
        with pytest.raises(InputError, match="none could be downloaded"):
            fashion_mnist(tmp_path / "root")
    assert time.monotonic() - began < 5
    assert socket.getdefaulttimeout() is None
    assert not (tmp_path / "root").exists()
