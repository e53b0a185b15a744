"""The work that every contender is given: a trained, normalized network, test images and a number of steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.convert.saving import network_content, network_from_content
from respike.simulate.rate.settings import Settings

TITLES = {
    "diehl_fc": "FC 784-1200-1200-10",
    "diehl_cnn": "CNN 12c5-2s-64c5-2s-10o",
}


@dataclass(frozen=True)
class Work:
    """One network and its test set, N images of (C, H, W).

    images: uint8 or float in [0, 1], (N, C, H, W); labels: (N,); settings: keywords of `simulate` that differ from its
    defaults; reduced: why this is not the whole published work, empty where it is.
    """

    name: str
    snn: RateSNN
    images: Tensor
    labels: Tensor
    settings: dict[str, Any]
    data: str = ""
    reduced: str = ""

    @property
    def title(self) -> str:
        """For tables: the network and its number of steps."""
        return f"{TITLES.get(self.name, self.name)}, {self.steps} steps"

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return Settings(**self.settings).steps

    def pixels(self, count: int | None = None) -> Tensor:
        """The first `count` images as float32 in [0, 1]."""
        images = self.images[:count]
        return images.float() / 255 if images.dtype == torch.uint8 else images.float()

    def save(self, path: Path) -> Path:
        """Write it where other processes can `load` it; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(self) | {"snn": network_content(self.snn)}, path)
        return path

    @classmethod
    def load(cls, path: Path | str) -> "Work":
        """What `save` wrote."""
        content = torch.load(path, weights_only=True)
        return cls(**content | {"snn": network_from_content(content["snn"], [RateSNN], str(path))})
