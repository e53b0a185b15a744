"""Networks from the files their authors published: MATLAB .mat files of Diehl et al. 2015.

In MATLAB an image is column-major, that is transposed here, and `convn` flips its kernels: a kernel is transposed and
flipped on both axes. Feature maps are flattened column-major, map after map, which is row-major on the transposed map.
"""

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
    """The variables of a .mat file by name. Raises InputError where there is no such file or it is not one."""
    if path is None or not Path(path).is_file():
        raise InputError(f"model.path={path or 'null'}: no such file; give a network as model.path=/folder/net.mat ({SOURCE})")
    try:
        return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # scipy raises a different error for each way in which a file can be broken
        raise InputError(f"model.path={path}: not a readable .mat file ({error}); get it again ({SOURCE})") from error


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def load_fc(path: str | Path | None, output_relu: str = "masked") -> MLP:
    """The fully-connected network of a file: variables W1, W2, ... (out, in) and perhaps `drop`, or a struct `nn`.

    `nn` holds W, a cell of such matrices, and dropoutFraction. Biases are none. `output_relu` as in `MLP`.
    """
    variables = _read(path)
    if "nn" in variables:
        weights = [np.atleast_2d(w) for w in np.atleast_1d(variables["nn"].W)]
        dropout = float(getattr(variables["nn"], "dropoutFraction", 0.0))
    else:
        names = sorted((name for name in variables if name[0] == "W" and name[1:].isdigit()), key=lambda name: int(name[1:]))
        weights = [np.atleast_2d(variables[name]) for name in names]
        dropout = float(variables.get("drop", 0.0))
    if not weights or any(a.shape[0] != b.shape[1] for a, b in zip(weights[:-1], weights[1:], strict=True)):
        found = ", ".join(name for name in variables if not name.startswith("__"))
        raise InputError(f"model.path={path}: found {found}; a chain of matrices W1, W2, ... or a struct nn with W is needed")
    net = MLP([weights[0].shape[1], *(w.shape[0] for w in weights)], dropout, output_relu=output_relu)
    layers = [module for module in net if isinstance(module, nn.Linear)]
    for layer, w in zip(layers, weights, strict=True):
        layer.weight.data = _tensor(w)
    return net.eval()


def load_cnn(path: str | Path | None) -> nn.Sequential:
    """The convolutional network of a file's struct `cnn`: layers of type i, c and s, then the matrix ffW (10, inputs)."""
    variables = _read(path)
    if "cnn" not in variables:
        found = ", ".join(name for name in variables if not name.startswith("__"))
        raise InputError(f"model.path={path}: found {found}; a struct cnn is needed (a network of matrices is experiment=diehl_fc_published)")
    cnn, modules = variables["cnn"], []
    for layer in np.atleast_1d(cnn.layers):
        if layer.type == "c":
            modules += [_convolution(layer), nn.ReLU()]
        elif layer.type == "s":
            modules.append(nn.AvgPool2d(int(layer.scale)))
    return nn.Sequential(*modules, nn.Flatten(), _linear(np.atleast_2d(cnn.ffW), np.atleast_1d(cnn.ffb)), nn.ReLU()).eval()


def _convolution(layer: Any) -> nn.Conv2d:
    """k{i}{j} is the kernel from map i to map j; weight (out, in, kh, kw)."""
    rows = list(np.atleast_1d(layer.k))
    rows = [rows] if rows[0].dtype != object else rows  # one input map: scipy squeezes its cell away
    kernels = np.stack([np.stack(list(row)) for row in rows])  # (in, out, kw, kh)
    weight = kernels.transpose(1, 0, 3, 2)[..., ::-1, ::-1]
    bias = np.atleast_1d(layer.b).astype(np.float32)
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=bool(bias.any()))
    conv.weight.data = _tensor(weight)
    if conv.bias is not None:
        conv.bias.data = _tensor(bias)
    return conv


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias.any()))
    linear.weight.data = _tensor(weight)
    if linear.bias is not None:
        linear.bias.data = _tensor(bias)
    return linear
