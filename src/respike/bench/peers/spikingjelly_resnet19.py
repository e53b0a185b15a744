"""Our ResNet-19 from SpikingJelly's multi-step layers: LIFNode(tau=1/(1-tau), decay_input=False, v_reset=0) fires at v_th,
not above it; ThresholdDependentBatchNorm2d starts at weights alpha * v_th, in its own step mode "m"."""

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from respike.layers.tdbn import TdBN
from respike.networks.resnet19 import Block, SpikingResNet19
from respike.neurons.lif import LIF


def _lif(ours: LIF) -> nn.Module:
    window = surrogate.Rect(alpha=1 / (2 * ours.surrogate.a))
    return neuron.LIFNode(1 / (1 - ours.tau), False, ours.v_th, 0.0, window, ours.detach_reset, step_mode="m")


def _norm(ours: TdBN, v_th: float) -> nn.Module:
    return layer.ThresholdDependentBatchNorm2d(ours.gain / v_th, v_th, len(ours.weight))


def _conv(ours: nn.Conv2d) -> nn.Module:
    made = layer.Conv2d(
        ours.in_channels, ours.out_channels, ours.kernel_size, ours.stride, ours.padding, bias=False, step_mode="m"
    )
    made.load_state_dict(ours.state_dict())
    return made


class _Block(nn.Module):
    def __init__(self, ours: Block):
        super().__init__()
        cell = ours.fire1.neurons.neuron
        self.first = nn.Sequential(_conv(ours.conv1), _norm(ours.fire1.norm, cell.v_th), _lif(cell))
        self.second = nn.Sequential(_conv(ours.conv2), _norm(ours.fire2.norm, cell.v_th))
        self.shortcut = nn.Identity()
        if ours.shortcut is not None:
            self.shortcut = nn.Sequential(_conv(ours.shortcut), _norm(ours.fire2.shortcut_norm, cell.v_th))
        self.fire = _lif(cell)

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.second(self.first(x)) + self.shortcut(x))


class _ResNet19(nn.Module):
    def __init__(self, ours: SpikingResNet19):
        super().__init__()
        cell, self.steps = ours.fire1.neuron, ours.steps
        self.stem = nn.Sequential(_conv(ours.stem), _norm(ours.fire.norm, cell.v_th), _lif(cell))
        self.blocks = nn.Sequential(*map(_Block, ours.blocks))
        self.head = nn.Sequential(ours.fc1, _lif(cell), ours.fc2, _lif(cell))

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self)
        x = self.blocks(self.stem(images.expand(self.steps, *images.shape)))
        return self.head(x.mean((-2, -1))).mean(0)


def multi_step(ours: SpikingResNet19) -> nn.Module:
    """The network with the weights of ours, images (B, C, H, W) -> logits (B, classes)."""
    net = _ResNet19(ours)
    for module in net.modules():
        if isinstance(module, layer.ThresholdDependentBatchNorm2d):
            module.step_mode = "m"
    return net
