"""VGG16 for photographs, with weights from a file: torchvision's, or any state dict of the same chain of layers."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.vgg import POOL, VGG

POOLS_BEHIND = (2, 4, 7, 10, 13)  # of the 13 convolutions
SOURCE = "a state dict of torchvision.models.vgg16, or of another network of its layers"
PIXELS = {  # mean, std per RGB channel of pixels in [0, 1]
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),  # 0..255 without the mean
    "none": ((0.0,) * 3, (1.0,) * 3),
}


def load_vgg16(
    path: str | Path | None, preprocessing: str = "torchvision", side: int = 224, dropout: float = 0.5
) -> nn.Module:
    """13 convolutions and 3 linear layers, of the widths and with the weights of a file; RGB images in [0, 1].

    preprocessing: of the images the file was trained with, and here the network's first layer: "torchvision" (mean 0.485,
    ..., deviation 0.229, ...), "caffe" (0..255 without the mean, channels in the order BGR; here the weights of the first
    layer are reversed instead) or "none". side: of the images, in pixels. Raises InputError for a file that is missing or of
    another network.
    """
    if preprocessing not in PIXELS:
        raise InputError(f"model.preprocessing={preprocessing}: unknown, choose one of {', '.join(PIXELS)}")
    weights, biases = _read(path)
    widths, linear = [len(weight) for weight in weights[:13]], weights[13:]
    fits = weights[0].shape[1] == 3 and [w.shape[1] for w in weights[1:13]] == widths[:-1]
    if not fits or linear[0].shape[1] != widths[-1] * (side // 32) ** 2 or not _chain(linear):
        raise InputError(
            f"model.path={path}: its layers do not follow each other on {side}x{side} RGB images; {SOURCE}"
        )
    features = [item for i, n in enumerate(widths, 1) for item in ([n, POOL] if i in POOLS_BEHIND else [n])]
    mean, std = PIXELS[preprocessing]
    hidden, classes = [len(weight) for weight in linear[:-1]], len(linear[-1])
    net = VGG(features, hidden, (3, side, side), classes, (0.0, 0.0, 0.0, dropout), True, mean, std, batch_norm=False)
    if preprocessing == "caffe":
        weights[0] = weights[0].flip(1)
    layers = [module for module in net if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        layer.weight.data, layer.bias.data = weight.float().clone(), bias.float().clone()
    return net.eval()


def _chain(linear: list[Tensor]) -> bool:
    return all(after.shape[1] == len(before) for before, after in pairwise(linear))


def _read(path: str | Path | None) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the 16 layers, in order."""
    if path is None or not Path(path).is_file():
        raise InputError(
            f"model.path={path or 'null'}: no such file; give weights as model.path=/folder/vgg16.pth ({SOURCE})"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = [value for value in content.get("state_dict", content).values() if value.ndim in (1, 2, 4)]
    except Exception as error:  # torch raises a different error for each way in which a file can be broken
        raise InputError(f"model.path={path}: not a readable state dict ({type(error).__name__}); {SOURCE}") from error
    weights = [value for value in tensors if value.ndim > 1]
    biases = [value for value in tensors if value.ndim == 1]
    biases = biases[-16:]  # before them may stand constants of a network of ours that standardizes its pixels
    dims = [weight.ndim for weight in weights]
    if dims != [4] * 13 + [2] * 3 or [len(w) for w in weights] != [len(b) for b in biases]:
        raise InputError(
            f"model.path={path}: {len(weights)} weights, 13 convolutions and 3 linear layers are needed; {SOURCE}"
        )
    return weights, biases
