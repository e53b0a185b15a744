"""Files in MATLAB's format, against the arithmetic of the authors' code in NumPy on column-major images."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.io
import torch
from scipy.signal import convolve2d

from respike.data.datasets import mnist
from respike.errors import InputError
from respike.networks.matlab_files import load_cnn, load_fc

RANDOM = np.random.default_rng(0)


def cell(items):
    """A MATLAB cell row."""
    array = np.empty((1, len(items)), dtype=object)
    array[0, :] = items
    return array


def write_fc(path, layout, weights, dropout):
    if layout == "variables":
        scipy.io.savemat(path, {f"W{i}": w for i, w in enumerate(weights, start=1)} | {"drop": dropout, "note": "mine"})
    else:
        scipy.io.savemat(path, {"nn": {"W": cell(weights), "dropoutFraction": dropout, "n": len(weights) + 1}})
    return path


@pytest.mark.parametrize("layout", ["variables", "struct"])
@pytest.mark.parametrize("sizes", [[6, 5, 4], [6, 5, 5, 5, 3], [6, 4, 1], [6, 3]], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_fully_connected_file_computes_what_matlab_does(tmp_path, layout, sizes, dropout):
    """The 784 columns are the row-major pixels; at test each hidden activation is multiplied by 1 - dropout."""
    weights = [RANDOM.normal(size=(b, a)) for a, b in pairwise(sizes)]
    net = load_fc(write_fc(tmp_path / "net.mat", layout, weights, dropout))
    images = RANDOM.random((7, 1, 2, 3))
    x = images.reshape(7, 6)
    for w in weights[:-1]:
        x = (x @ w.T).clip(min=0) * (1 - dropout)
    expected = (x @ weights[-1].T).clip(min=0)
    assert not net.training
    np.testing.assert_allclose(net(torch.from_numpy(images).float()).detach(), expected, rtol=1e-5, atol=1e-5)


def test_ten_or_more_matrices_are_taken_in_numeric_order(tmp_path):
    sizes = [3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2]
    weights = [np.ones((b, a)) for a, b in pairwise(sizes)]
    net = load_fc(write_fc(tmp_path / "net.mat", "variables", weights, 0.0))
    assert [tuple(p.shape) for p in net.parameters()] == [w.shape for w in weights]


def random_cnn(channels, kernel, pool, side, bias):
    """A struct as the authors' trainer saves it: k{i}{j} from map i to map j, b{j}, ffW, ffb."""
    layers, maps = [{"type": "i"}], 1
    for n_out in channels:
        kernels = cell([cell([RANDOM.normal(size=(kernel, kernel)) for _ in range(n_out)]) for _ in range(maps)])
        biases = cell([RANDOM.normal() if bias else 0.0 for _ in range(n_out)])
        layers += [
            {"type": "c", "outputmaps": n_out, "kernelsize": kernel, "k": kernels, "b": biases},
            {"type": "s", "scale": pool},
        ]
        maps, side = n_out, (side - kernel + 1) // pool
    ffb = RANDOM.normal(size=(10, 1)) if bias else np.zeros((10, 1))
    return {"layers": cell(layers), "ffW": RANDOM.normal(size=(10, maps * side * side)), "ffb": ffb}


def matlab_cnn(cnn, image):
    """The authors' forward pass of one row-major image; `convn` is a true convolution, columns come first."""
    maps = [image.T]
    for layer in cnn["layers"][0]:
        if layer["type"] == "c":
            k, b = layer["k"], layer["b"]
            sums = [
                sum(convolve2d(m, k[0, i][0, j], "valid") for i, m in enumerate(maps)) + b[0, j]
                for j in range(b.shape[1])
            ]
            maps = [np.maximum(s, 0) for s in sums]
        elif layer["type"] == "s":
            n = layer["scale"]
            maps = [m.reshape(m.shape[0] // n, n, m.shape[1] // n, n).mean((1, 3)) for m in maps]
    vector = np.concatenate([m.ravel(order="F") for m in maps])
    return np.maximum(cnn["ffW"] @ vector + cnn["ffb"][:, 0], 0)


CNNS = {
    "two layers": ((3, 4), 3, 2, 14),
    "one layer": ((2,), 5, 2, 10),
    "one map inside": ((3, 1), 3, 2, 14),
    "one map": ((1,), 3, 2, 8),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", CNNS)
def test_a_convolutional_file_computes_what_matlab_does(tmp_path, sizes, bias):
    cnn, side = random_cnn(*CNNS[sizes], bias), CNNS[sizes][-1]
    scipy.io.savemat(tmp_path / "net.mat", {"cnn": cnn})
    net = load_cnn(tmp_path / "net.mat")
    images = RANDOM.random((5, side, side))
    expected = np.stack([matlab_cnn(cnn, image) for image in images])
    ours = net(torch.from_numpy(images).float()[:, None]).detach()
    assert not net.training
    assert any(name.endswith("bias") for name, _ in net.named_parameters()) == bias
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_authors_file_has_9914_of_10000_test_images_right(published):
    net = load_cnn(published("diehl2015", "cnn_99.14.mat"))
    data = mnist(published("MNIST", "raw").parents[1], download=False)
    with torch.inference_mode():
        classes = torch.cat([net(pixels / 255).argmax(1) for pixels in data.test_images.split(500)])
    assert (len(classes), int((classes == data.test_labels).sum())) == (10_000, 9914)


BROKEN = {
    "missing": None,
    "empty": b"",
    "text": b"this is not MATLAB's format",
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-40]),
}


@pytest.mark.parametrize("load", [load_fc, load_cnn])
@pytest.mark.parametrize("damage", BROKEN)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, load, damage):
    path = tmp_path / "net.mat"
    if damage == "cut short":
        write_fc(path, "variables", [RANDOM.normal(size=(40, 50))], 0.0)
        BROKEN[damage](path)
    elif BROKEN[damage] is not None:
        path.write_bytes(BROKEN[damage])
    with pytest.raises(InputError, match=r"^model\.path=") as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_no_path_at_all_is_one_line():
    for load in (load_fc, load_cnn):
        with pytest.raises(InputError, match=r"^model\.path=null: .*model\.path=/"):
            load(None)


FOREIGN = {
    "a convolutional net": {"cnn": random_cnn((2,), 3, 2, 8, False)},
    "no matrix": {"weights": np.eye(3)},
    "matrices that do not chain": {"W1": np.ones((4, 3)), "W2": np.ones((2, 5))},
    "a struct without W": {"nn": {"dropoutFraction": 0.5}},
}


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_without_a_chain_of_matrices_is_refused(tmp_path, content):
    scipy.io.savemat(tmp_path / "net.mat", FOREIGN[content])
    with pytest.raises(InputError, match=r"^model\.path=.*\bW1?\b") as error:
        load_fc(tmp_path / "net.mat")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lost", ["cnn", "layers", "ffW"])
def test_a_file_without_the_parts_of_a_convolutional_net_is_refused(tmp_path, lost):
    cnn = random_cnn((2,), 3, 2, 8, False)
    cnn.pop(lost, None)
    scipy.io.savemat(tmp_path / "net.mat", {"cnn": cnn} if lost != "cnn" else {"W1": np.eye(3)})
    with pytest.raises(InputError, match=r"^model\.path=") as error:
        load_cnn(tmp_path / "net.mat")
    assert "\n" not in str(error.value)
