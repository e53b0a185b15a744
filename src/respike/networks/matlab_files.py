"""Reads networks from MATLAB .mat files, as Diehl et al. 2015 publish theirs.

MATLAB stores images column-major, so they are the transposed images of this repository, and `convn` flips its kernels: a kernel
is transposed and flipped on both axes. MATLAB flattens feature maps column-major, map after map, which is row-major on the
transposed map.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from torch import nn

from respike.errors import InputError
from respike.networks.mlp import MLP

SOURCE = "the authors publish theirs in github.com/dannyneil/spiking_relu_conversion"


def _read(path: str | Path | None) -> dict[str, Any]:
    """The variables of a .mat file by name. Raises InputError if the file does not exist or is no .mat file."""
    if path is None or not Path(path).is_file():
        raise InputError(
            f"model.path={path or 'null'}: no such file; give a network as model.path=/folder/net.mat ({SOURCE})"
        )
    try:
        return scipy.io.loadmat(path, struct_as_record=False)
    except Exception as error:  # scipy raises a different error for each way in which a file can be broken
        raise InputError(f"model.path={path}: not a readable .mat file ({error}); get it again ({SOURCE})") from error


def _field(struct: Any, name: str, path: str | Path | None) -> np.ndarray:
    """A field of a MATLAB struct; scipy holds a struct in a 1x1 array."""
    struct = struct[0, 0] if isinstance(struct, np.ndarray) else struct
    if name not in getattr(struct, "_fieldnames", ()):
        raise InputError(
            f"model.path={path}: a struct without the field {name}; a network as the authors save it is needed ({SOURCE})"
        )
    return getattr(struct, name)


def _cells(cell: np.ndarray) -> list[Any]:
    """The contents of a MATLAB cell, in order. scipy returns the content itself for a cell of one element."""
    return list(cell.ravel(order="F")) if cell.dtype == object else [cell]


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def load_fc(path: str | Path | None, output_relu: str = "masked") -> MLP:
    """The fully-connected network in a file, in eval mode.

    The file holds variables W1, W2, ... (out, in) and optionally `drop`; or a struct `nn` with a cell W of such matrices and
    optionally `dropoutFraction`. There are no biases. output_relu: as in `MLP`. Raises InputError for any other file.
    """
    variables = _read(path)
    if "nn" in variables and "W" in variables["nn"][0, 0]._fieldnames:
        weights = _cells(_field(variables["nn"], "W", path))
        dropout = getattr(variables["nn"][0, 0], "dropoutFraction", 0.0)
    else:
        numbers = sorted(int(name[1:]) for name in variables if name[0] == "W" and name[1:].isdigit())
        weights = [variables[f"W{number}"] for number in numbers]
        dropout = variables.get("drop", 0.0)
    if not weights or any(a.shape[0] != b.shape[1] for a, b in pairwise(weights)):
        raise InputError(
            f"model.path={path}: found {_names(variables)}; a chain of matrices W1, W2, ... or a struct nn with W is needed"
        )
    net = MLP(
        [weights[0].shape[1], *(w.shape[0] for w in weights)], float(np.squeeze(dropout)), output_relu=output_relu
    )
    layers = [module for module in net if isinstance(module, nn.Linear)]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight.data = _tensor(w)
    return net.eval()


def load_cnn(path: str | Path | None) -> nn.Sequential:
    """The convolutional network in a file, in eval mode.

    The file holds a struct `cnn` with layers of type i (input), c (convolution) and s (pool), then the matrix ffW
    (10, inputs). Raises InputError for any other file.
    """
    variables = _read(path)
    if "cnn" not in variables:
        raise InputError(
            f"model.path={path}: found {_names(variables)}; a struct cnn is needed "
            "(a network of matrices is experiment=diehl_fc_published)"
        )
    cnn = variables["cnn"]
    modules: list[nn.Module] = []
    for layer in _cells(_field(cnn, "layers", path)):
        kind = str(np.squeeze(_field(layer, "type", path)))
        if kind == "c":
            modules += [_convolution(_field(layer, "k", path), _field(layer, "b", path)), nn.ReLU()]
        elif kind == "s":
            modules.append(nn.AvgPool2d(int(np.squeeze(_field(layer, "scale", path)))))
    linear = _linear(_field(cnn, "ffW", path), _field(cnn, "ffb", path).ravel())
    return nn.Sequential(*modules, nn.Flatten(), linear, nn.ReLU()).eval()


def _names(variables: dict[str, Any]) -> str:
    return ", ".join(name for name in variables if not name.startswith("__")) or "nothing"


def _convolution(k: np.ndarray, b: np.ndarray) -> nn.Conv2d:
    """The convolution of a layer: k{i}{j} is the kernel from map i to map j, b{j} the bias of map j."""
    kernels = np.stack([np.stack(_cells(row)) for row in _cells(k)])  # (in, out, kw, kh)
    weight = kernels.transpose(1, 0, 3, 2)[..., ::-1, ::-1]
    bias = np.array([float(np.squeeze(value)) for value in b.ravel()])
    outputs, inputs, width, _ = weight.shape
    convolution = nn.Conv2d(inputs, outputs, width, bias=bool(bias.any()))
    _set_weights(convolution, weight, bias)
    return convolution


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """The linear layer with weights (out, in) and biases (out,)."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bool(bias.any()))
    _set_weights(linear, weight, bias)
    return linear


def _set_weights(layer: nn.Linear | nn.Conv2d, weight: np.ndarray, bias: np.ndarray) -> None:
    """Set the weights, and the biases if the layer has some. A layer is built without biases if all of them are 0."""
    layer.weight.data = _tensor(weight)
    if layer.bias is not None:
        layer.bias.data = _tensor(bias)
