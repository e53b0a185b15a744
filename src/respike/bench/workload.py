"""The workload of the rate-coded rows: a converted network, its test images and a number of steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.convert.saving import network_content, network_from_content
from respike.data.pixels import to_unit
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.rate.settings import Settings

TITLES = {
    "diehl_fc": "FC 784-1200-1200-10",
    "diehl_cnn": "CNN 12c5-2s-64c5-2s-10o",
    "resnet20": "ResNet-20, 32x32",
    "vgg16": "VGG-16, 32x32, random weights",
    "resnet18": "ResNet-18, 224x224, random weights",
}
CURRENT: dict[str, Any] = {"encode": Current(), "neuron": IntegrateFire(reset="subtract", start=0.5)}


@dataclass(frozen=True)
class Workload:
    """A network and its test set, N images of (C, H, W).

    images: uint8 or float in [0, 1], (N, C, H, W). labels: (N,), or (0,) if the network was not trained. settings: plain
    keyword arguments of `simulate`. data: name of the data set. reduced: why this is less than the published workload; empty
    if it is the published one. relu: of the networks in cnn.py the ReLU network: its state dict under "weights", the images
    of the conversion under "calibration", and the outputs (N, classes) under "logits". Their input is a constant current, and
    neurons are reset by subtraction and start at half a threshold.
    """

    name: str
    snn: RateSNN
    images: Tensor
    labels: Tensor
    settings: dict[str, Any]
    data: str = ""
    reduced: str = ""
    relu: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """The network and its number of steps, for tables."""
        return f"{TITLES.get(self.name, self.name)}, {self.steps} steps"

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return Settings(**self.settings).steps

    @property
    def keywords(self) -> dict[str, Any]:
        """All keyword arguments of `simulate`."""
        return self.settings if self.relu is None else self.settings | CURRENT

    def pixels(self, count: int | None = None) -> Tensor:
        """The first `count` images as float32 in [0, 1]."""
        return to_unit(self.images[:count]).float()

    def save(self, path: Path) -> Path:
        """Write a file that another process can `load`; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(self) | {"snn": network_content(self.snn)}, path)
        return path

    @classmethod
    def load(cls, path: Path | str) -> "Workload":
        """Read a file that `save` wrote."""
        content = torch.load(path, weights_only=True)
        return cls(**content | {"snn": network_from_content(content["snn"], [RateSNN], str(path))})
