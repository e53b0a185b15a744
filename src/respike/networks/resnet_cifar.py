"""The ResNets for CIFAR of He et al. 2016, section 4.2, as akamaster/pytorch_resnet_cifar10 and Bu et al. 2022 have them.

Shapes: B batch, C channels.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.state_dicts import give_state_dict, read_checkpoint, state_dict_of

WIDTHS = (16, 32, 64)  # channels of the three stages
SHORTCUTS = ("zeros", "conv")
SOURCE = "github.com/akamaster/pytorch_resnet_cifar10 has such files in pretrained_models/"


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """conv - norm - ReLU - conv - norm, plus the shortcut, ReLU after the sum.

    Where the shape changes, the shortcut "zeros" takes every second pixel and puts a quarter of the new channels, zero, on
    either side (option A of He et al.); "conv" is a convolution of 1x1 and a norm (option B).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str = "zeros"):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.zeros = outputs // 4 if stride > 1 and shortcut == "zeros" else 0
        self.shortcut: nn.Module | None = None
        if stride > 1 and shortcut == "conv":
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.zeros:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return F.relu(y + x)


class ResNetCifar(nn.Module):
    """Standardized images (B, 3, 32, 32) -> logits (B, classes); 269,722 parameters by default.

    depth: 6 n + 2, for n blocks per stage: 20, 32, 44, 56, 110 or 1202 are published. path: a file of weights, or None.
    shortcut: "zeros" of He et al. and akamaster; "conv" of Bu et al. 2022, 272,474 parameters with 20 layers, whose start
    weights are PyTorch's. Raises InputError for another depth or shortcut, a missing file, and a file of another network.
    """

    def __init__(self, depth: int = 20, classes: int = 10, path: str | Path | None = None, shortcut: str = "zeros"):
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise InputError(f"model.shortcut={shortcut}: unknown, choose model.shortcut={' or '.join(SHORTCUTS)}")
        if depth < 8 or depth % 6 != 2:
            raise InputError(f"model.depth={depth}: 6 n + 2 layers are needed, as in model.depth=20")
        self.conv1, self.bn1 = _conv(3, WIDTHS[0]), nn.BatchNorm2d(WIDTHS[0])
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, 1):
            first = Block(inputs, width, 1 if stage == 1 else 2, shortcut)
            setattr(
                self, f"layer{stage}", nn.Sequential(first, *(Block(width, width, 1) for _ in range(depth // 6 - 1)))
            )
            inputs = width
        self.linear = nn.Linear(inputs, classes)
        for module in self.modules():
            if shortcut == "zeros" and isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        if path is not None:
            content = read_checkpoint(path, "model.path", SOURCE)
            give_state_dict(self, state_dict_of(content, f"model.path={path}"), f"model.path={path}")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))
