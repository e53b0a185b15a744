"""VGG-16 for CIFAR with batch norms, as Bu et al. 2022 have it. Shapes: B batch."""

from torch import nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = (4096, 4096)


class VGG16Cifar(nn.Sequential):
    """Standardized images (B, 3, 32, 32) -> logits (B, classes); 33,646,666 parameters with 10 classes.

    3x3 convolutions with bias, batch norm and ReLU, an average pool of 2 behind each stage, then linear layers
    512-4096-4096-classes. width: multiplies every number of maps and hidden units. Start weights of the convolutions: Kaiming
    normal by fan_out; biases of the linear layers: 0.
    """

    def __init__(self, classes: int = 10, width: float = 1.0):
        layers: list[nn.Module] = []
        inputs = 3
        for stage in STAGES:
            for maps in stage:
                outputs = max(1, round(width * maps))
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.AvgPool2d(2))
        layers.append(nn.Flatten())
        for units in HIDDEN:
            outputs = max(1, round(width * units))
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        super().__init__(*layers, nn.Linear(inputs, classes))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
