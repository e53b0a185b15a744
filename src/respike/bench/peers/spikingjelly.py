"""SpikingJelly 2: our converted network with `IFNode`, its own conversion, and the directly trained ResNet-19 with `LIFNode`.

`IFNode` and `LIFNode` fire at the threshold (the step function is 1 at 0) and reset to v_reset=0.
"""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import ann2snn, functional, layer, neuron, surrogate
from torch import Tensor, fx, nn

from respike.bench import cnn
from respike.bench.peers import Draw, Simulator, drives
from respike.bench.workload import Workload
from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError
from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.lif import LIF
from respike.neurons.surrogate import Rectangle


def _network(snn: RateSNN) -> nn.Sequential:
    """SpikingJelly's layers, which support both step modes, each followed by an `IFNode`."""
    modules: list[nn.Module] = []
    for drive in drives(snn):
        modules += [*(_layer(module) for module in drive), neuron.IFNode(v_threshold=1.0, v_reset=0.0)]
    return nn.Sequential(*modules).eval()


def _layer(module: nn.Module) -> nn.Module:
    bias = getattr(module, "bias", None) is not None
    if isinstance(module, nn.Flatten):
        return layer.Flatten()
    if isinstance(module, nn.AvgPool2d):
        return layer.AvgPool2d(module.kernel_size, module.stride, module.padding)
    if isinstance(module, nn.Linear):
        made = layer.Linear(module.in_features, module.out_features, bias)
    elif isinstance(module, nn.Conv2d):
        made = layer.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.dilation, module.groups, bias,
        )  # fmt: skip
    else:
        raise InputError(f"{type(module).__name__} has no counterpart in SpikingJelly here")
    made.load_state_dict(module.state_dict())
    return made


def single_step(snn: RateSNN, steps: int) -> Simulator:
    """step_mode "s": the whole network at each step, x (B, ...)."""
    net = _network(snn)
    functional.set_step_mode(net, "s")

    def run(images: Tensor, draw: Draw) -> Tensor:
        functional.reset_net(net)
        counts: Any = 0.0
        for _ in range(steps):
            counts += net(draw(images))
        return counts

    return run


def multi_step(snn: RateSNN, steps: int) -> Simulator:
    """step_mode "m": one layer after the other for all steps, x (T, B, ...)."""
    net = _network(snn)
    functional.set_step_mode(net, "m")

    def run(images: Tensor, draw: Draw) -> Tensor:
        functional.reset_net(net)
        return net(draw(images.expand(steps, *images.shape))).sum(0)

    return run


def _lif(ours: LIF) -> nn.Module:
    """LIFNode multiplies its potential by 1 - 1 / tau, without decay of the input."""
    assert isinstance(ours.surrogate, Rectangle)
    window = surrogate.Rect(alpha=1 / (2 * ours.surrogate.a))
    return neuron.LIFNode(1 / (1 - ours.tau), False, ours.v_th, 0.0, window, ours.detach_reset, step_mode="m")


def _norm(ours: Any, v_th: float) -> nn.Module:
    """Of a TdBN. Its weights start at alpha * v_th."""
    return layer.ThresholdDependentBatchNorm2d(ours.gain / v_th, v_th, len(ours.weight))


def _conv(ours: nn.Conv2d) -> nn.Module:
    made = layer.Conv2d(
        ours.in_channels, ours.out_channels, ours.kernel_size, ours.stride, ours.padding, bias=False, step_mode="m"
    )
    made.load_state_dict(ours.state_dict())
    return made


class _Block(nn.Module):
    def __init__(self, ours: Any):
        super().__init__()
        lif = ours.fire1.neurons.neuron
        self.first = nn.Sequential(_conv(ours.conv1), _norm(ours.fire1.norm, lif.v_th), _lif(lif))
        self.second = nn.Sequential(_conv(ours.conv2), _norm(ours.fire2.norm, lif.v_th))
        self.shortcut: nn.Module = nn.Identity()
        if ours.shortcut is not None:
            self.shortcut = nn.Sequential(_conv(ours.shortcut), _norm(ours.fire2.shortcut_norm, lif.v_th))
        self.fire = _lif(lif)

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.second(self.first(x)) + self.shortcut(x))


class _ResNet19(nn.Module):
    def __init__(self, ours: SpikingResNet19):
        super().__init__()
        self.steps = ours.steps
        lif = ours.fire1.neuron
        assert isinstance(lif, LIF)
        self.stem = nn.Sequential(_conv(ours.stem), _norm(ours.fire.norm, lif.v_th), _lif(lif))
        self.blocks = nn.Sequential(*(_Block(block) for block in ours.blocks))
        self.head = nn.Sequential(ours.fc1, _lif(lif), ours.fc2, _lif(lif))

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self)
        x = self.blocks(self.stem(images.expand(self.steps, *images.shape)))
        return self.head(x.mean((-2, -1))).mean(0)


def resnet19(ours: SpikingResNet19) -> nn.Module:
    """The ResNet-19 with the weights of `ours`, in multi-step mode: images (B, C, H, W) -> logits (B, classes)."""
    net = _ResNet19(ours)
    for module in net.modules():
        if isinstance(module, layer.ThresholdDependentBatchNorm2d):
            module.step_mode = "m"
    return net


class Converted:
    """The ReLU network of a workload of cnn.py, converted by SpikingJelly: images (B, C, H, W) -> summed output (B, classes).

    One scale per channel, 99.9 % of the activations, potentials that start at half a threshold: its most accurate setting, and
    that of ours. step_mode: "s", the whole network at each step, or "m", one layer after the other for all steps. dtype: of
    weights and potentials. scales: of each layer (C,).
    """

    def __init__(self, workload: Workload, step_mode: str, dtype: torch.dtype, device: str = "cpu"):
        assert workload.relu is not None
        batches = [cnn.standardize(part) for part in workload.relu["calibration"].split(cnn.PART)]
        recipe = ann2snn.RateCodingRecipe(dataloader=batches, mode="99.9%", channel_wise=True, half_threshold=True)
        snn = ann2snn.Converter(recipe).convert(acceptable(cnn.relu_network(workload)))
        self.scales = [module.scale for name, module in snn.named_modules() if name.endswith("scaler1")]
        functional.set_step_mode(snn, step_mode)
        self.snn, self.steps, self.step_mode = snn.to(device, dtype), workload.steps, step_mode
        self.dtype, self.device = dtype, device

    def __call__(self, images: Tensor) -> Tensor:
        """Simulate the images from rest."""
        functional.reset_net(self.snn)
        x = cnn.standardize(images.float()).to(self.device, self.dtype)
        total = torch.promote_types(self.dtype, torch.float32)
        if self.step_mode == "m":
            return self.snn(x.expand(self.steps, *x.shape)).to(total).sum(0)
        return sum((self.snn(x).to(total) for _ in range(self.steps)), torch.zeros((), dtype=total))


def converted(workload: Workload, step_mode: str, bf16: bool = False, device: str = "cpu") -> Converted:
    """`Converted` in bfloat16 or float32. Raises InputError for a GPU where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("SpikingJelly does not run here on a GPU: it needs a CUDA device")
    return Converted(workload, step_mode, torch.bfloat16 if bf16 else torch.float32, device)


def acceptable(net: nn.Module) -> fx.GraphModule:
    """The network with the operations that the converter knows: ReLUs are modules, zero channels are concatenated."""
    traced = fx.symbolic_trace(net)
    graph = traced.graph
    for number, node in enumerate(list(graph.nodes)):
        with graph.inserting_before(node):
            if node.target in (F.relu, torch.relu):
                traced.add_submodule(f"relu{number}", nn.ReLU())
                new = graph.call_module(f"relu{number}", (node.args[0],))
            elif node.target is F.pad:
                x, (*sides, before, after) = node.args[:2]
                assert not any(sides)
                some = [graph.call_function(operator.getitem, (x, (slice(None), slice(n)))) for n in (before, after)]
                zeros = [graph.call_function(operator.mul, (channels, 0)) for channels in some]
                new = graph.call_function(torch.cat, ([zeros[0], x, zeros[1]], 1))
            else:
                continue
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    traced.recompile()
    return traced.eval()
