"""CIFAR in the files that its authors hand out, written here with a few random images."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from respike.data.cifar import cifar10, cifar100
from respike.errors import InputError


def write(folder, names, label_key, labels):
    folder.mkdir(parents=True, exist_ok=True)
    sums, written = [], []
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, label_key: labels}))
        sums.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
        written.append(pixels.reshape(-1, 3, 32, 32))
    return sums, written


@pytest.mark.parametrize(
    ("read", "source", "key", "meta"),
    [
        (cifar10, datasets.CIFAR10, "labels", "label_names"),
        (cifar100, datasets.CIFAR100, "fine_labels", "fine_label_names"),
    ],
)
def test_the_published_files_are_read(tmp_path, monkeypatch, read, source, key, meta):
    folder, classes = tmp_path / source.base_folder, [f"class {c}" for c in range(10)]
    train, pixels = write(folder, [name for name, _ in source.train_list], key, [3, 1, 9])
    test, last = write(folder, [name for name, _ in source.test_list], key, [0, 2])
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({meta: classes}))
    digest = hashlib.md5((folder / source.meta["filename"]).read_bytes()).hexdigest()
    for name, value in (("train_list", train), ("test_list", test), ("meta", source.meta | {"md5": digest})):
        monkeypatch.setattr(source, name, value)
    images = read(tmp_path)
    assert torch.equal(images.train_images, torch.from_numpy(np.concatenate(pixels)))
    assert torch.equal(images.test_images, torch.from_numpy(last[0]))
    assert images.train_labels.tolist() == [3, 1, 9] * len(train) and images.classes == tuple(classes)


def test_where_it_is_not_the_line_says_what_to_unpack_and_where(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR-10 in .*cifar-10-batches-py.*data=cifar10_jpeg"):
        cifar10(tmp_path)
    with pytest.raises(InputError, match=r"CIFAR-100 in .*cifar-100-python.*data.root="):
        cifar100(tmp_path)
