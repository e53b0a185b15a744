"""Reads VGG16 from a state dict: torchvision's, or that of another network with the same chain of layers."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.vgg import POOL, VGG, Feature

CONVOLUTIONS_BEFORE_POOLS = (2, 4, 7, 10, 13)  # counted from 1; VGG16 has 13
SOURCE = "a state dict of torchvision.models.vgg16, or of another network with its layers, is needed"
PIXELS = {  # mean and standard deviation per RGB channel of pixels in [0, 1]
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),  # 0..255 minus the mean
    "none": ((0.0,) * 3, (1.0,) * 3),
}


def load_vgg16(
    path: str | Path | None, preprocessing: str = "torchvision", side: int = 224, dropout: float = 0.5
) -> nn.Module:
    """13 convolutions and 3 linear layers, with the widths and weights of a file, for RGB images in [0, 1]; eval mode.

    preprocessing: how images were preprocessed when the file was trained; it becomes the first layer. "torchvision" subtracts
    the mean (0.485, ...) and divides by the deviation (0.229, ...). "caffe" takes pixels 0..255 minus their mean, in the order
    BGR; the order is applied to the weights of the first convolution instead. "none" changes nothing. side: of the images,
    in pixels. dropout: share dropped behind linear layers in training. Raises InputError for a file that is missing, or that
    holds another network.
    """
    if preprocessing not in PIXELS:
        raise InputError(f"model.preprocessing={preprocessing}: unknown, choose one of {', '.join(PIXELS)}")
    weights, biases = _read(path)
    convolutions, linear = weights[:13], weights[13:]
    widths = [len(weight) for weight in convolutions]
    inputs = [weight.shape[1] for weight in convolutions]
    if (
        inputs != [3, *widths[:-1]]
        or linear[0].shape[1] != widths[-1] * (side // 32) ** 2
        or any(after.shape[1] != len(before) for before, after in pairwise(linear))
    ):
        raise InputError(
            f"model.path={path}: its layers do not follow each other on {side}x{side} RGB images; {SOURCE}"
        )
    features: list[Feature] = []
    for number, width in enumerate(widths, 1):
        features.append(width)
        if number in CONVOLUTIONS_BEFORE_POOLS:
            features.append(POOL)
    mean, std = PIXELS[preprocessing]
    hidden, classes = [len(weight) for weight in linear[:-1]], len(linear[-1])
    net = VGG(features, hidden, (3, side, side), classes, (0.0, 0.0, 0.0, dropout), True, mean, std, batch_norm=False)
    if preprocessing == "caffe":
        weights[0] = weights[0].flip(1)
    layers = [module for module in net if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight.float().clone()), nn.Parameter(bias.float().clone())
    return net.eval()


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
    biases = biases[-16:]  # a network of this repository has the constants of its preprocessing layer before them
    dims = [weight.ndim for weight in weights]
    if dims != [4] * 13 + [2] * 3 or [len(w) for w in weights] != [len(b) for b in biases]:
        raise InputError(
            f"model.path={path}: {len(weights)} weights that are not 13 convolutions and 3 linear layers; {SOURCE}"
        )
    return weights, biases
