"""Keras files, against the arithmetic of Keras in NumPy: channels last, kernels (height, width, in, out)."""

import h5py
import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from respike.errors import InputError
from respike.networks.keras_files import load_keras
from respike.networks.mlp import MLP

RANDOM = np.random.default_rng(0)


def write(path, layers, root=None, text=bytes):
    """A file as Keras' save_weights writes it; root="model_weights" as save does. layers: {name: [(weight name, array)]}."""
    coded = (lambda name: name.encode()) if text is bytes else (lambda name: name)
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        group.attrs["layer_names"] = [coded(name) for name in layers]
        for name, weights in layers.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [coded(f"{name}/{weight}:0") for weight, _ in weights]
            for weight, array in weights:
                layer.create_dataset(f"{name}/{weight}:0", data=array)
    return path


def random_layers():
    """conv 3x3 same (2 -> 4), batch norm, ReLU, flatten, linear -> 5, ReLU, linear -> 3."""
    norm = [(n, RANDOM.normal(size=4)) for n in ("gamma", "beta", "moving_mean")] + [
        ("moving_variance", RANDOM.random(4) + 0.5)
    ]
    return {
        "input_1": [],
        "conv2d": [("kernel", RANDOM.normal(size=(3, 3, 2, 4))), ("bias", RANDOM.normal(size=4))],
        "batch_normalization": norm,
        "flatten": [],
        "dense": [("kernel", RANDOM.normal(size=(4 * 5 * 6, 5))), ("bias", RANDOM.normal(size=5))],
        "dense_1": [("kernel", RANDOM.normal(size=(5, 3))), ("bias", RANDOM.normal(size=3))],
    }


def keras(layers, image):
    """The network's outputs for one image (H, W, C)."""
    arrays = {name: [array for _, array in weights] for name, weights in layers.items()}
    kernel, bias = arrays["conv2d"]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    maps = np.stack([correlate(padded, kernel[..., o], "valid")[..., 0] + bias[o] for o in range(4)], axis=-1)
    gamma, beta, mean, variance = arrays["batch_normalization"]
    x = np.maximum(gamma * (maps - mean) / np.sqrt(variance + 1e-3) + beta, 0).ravel()
    x = np.maximum(x @ arrays["dense"][0] + arrays["dense"][1], 0)
    return x @ arrays["dense_1"][0] + arrays["dense_1"][1]


def network():
    conv = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU()
    return nn.Sequential(*conv, nn.Flatten(), nn.Linear(120, 5), nn.ReLU(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("root", [None, "model_weights"])
@pytest.mark.parametrize("text", [bytes, str])
def test_a_file_computes_what_keras_does(tmp_path, root, text):
    layers = random_layers()
    net = load_keras(write(tmp_path / "net.h5", layers, root, text), network(), (2, 5, 6))
    images = RANDOM.random((4, 5, 6, 2))
    expected = np.stack([keras(layers, image) for image in images])
    ours = net(torch.from_numpy(images).permute(0, 3, 1, 2)).detach()
    assert not net.training
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_a_fully_connected_file_keeps_its_pixels_in_order(tmp_path):
    layers = {"dense": [("kernel", RANDOM.normal(size=(6, 4))), ("bias", RANDOM.normal(size=4))]}
    layers |= {"dense_1": [("kernel", RANDOM.normal(size=(4, 2))), ("bias", RANDOM.normal(size=2))]}
    net = MLP([6, 4, 2], bias=True, output_relu="none").double()
    load_keras(write(tmp_path / "fc.h5", layers), net, (1, 2, 3))
    x = RANDOM.random((3, 6))
    (w1, b1), (w2, b2) = ([array for _, array in weights] for weights in layers.values())
    np.testing.assert_allclose(net(torch.from_numpy(x).view(3, 1, 2, 3)).detach(), np.maximum(x @ w1 + b1, 0) @ w2 + b2)


def test_a_missing_broken_or_foreign_file_is_one_line(tmp_path):
    broken, foreign = tmp_path / "broken.h5", tmp_path / "foreign.h5"
    broken.write_bytes(b"not HDF5")
    h5py.File(foreign, "w").close()
    wide = random_layers() | {"dense_1": [("kernel", np.ones((5, 4))), ("bias", np.ones(4))]}
    few = {name: weights for name, weights in random_layers().items() if name != "dense_1"}
    unbiased = random_layers() | {"dense_1": [("kernel", np.ones((5, 3)))]}
    cases = [(None, "null: no such file"), (tmp_path / "absent.h5", "no such file"), (broken, "not a file of Keras")]
    cases += [(foreign, "not a file of Keras"), (write(tmp_path / "wide.h5", wide), "dense_1 has the shape")]
    cases += [
        (write(tmp_path / "few.h5", few), "3 layers with weights"),
        (write(tmp_path / "u.h5", unbiased), "1 arrays"),
    ]
    for path, words in cases:
        with pytest.raises(InputError, match=words) as error:
            load_keras(path, network(), (2, 5, 6))
        assert str(error.value).startswith("model.path=") and "\n" not in str(error.value)
