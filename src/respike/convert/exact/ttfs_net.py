"""TTFSNet: a chain of layers in which every neuron fires once (Stanojevic et al. 2023). Equations: neurons/ttfs.py."""

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import BiasMapConv2d
from respike.neurons.ttfs import efficacies, thresholds


def bias_of(module: nn.Module) -> Tensor:
    """The bias of a weighted layer as it is added to its output: (N,), (C, 1, 1) or (C, H, W); zeros where it has none."""
    if isinstance(module, BiasMapConv2d):
        return module.bias_map
    bias = module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias.detach()
    return bias.view(-1, *[1] * (module.weight.ndim - 2))


def synapses_of(module: nn.Module, weight: Tensor) -> nn.Linear | nn.Conv2d:
    """The connections of a weighted layer, with these weights and no bias."""
    if isinstance(module, nn.Linear):
        synapses = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    else:
        kept = module.stride, module.padding, module.dilation, module.groups
        synapses = nn.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size, *kept, bias=False, device="meta"
        )
    synapses.weight = nn.Parameter(weight, requires_grad=False)
    return synapses


class TTFSLayer(nn.Module):
    """Neurons that fire when V reaches their threshold: synapses with weights J, theta, and the layer's times.

    path: the max-pools (earliest spike, or latest) and flattening through which it reads its source. module: the ReLU
    layer it stands for, its weights summing to less than 1 per neuron; length: B_n, that is t_max - t_min.
    """

    def __init__(self, path: list[nn.Module], module: nn.Module, t_min_prev: Tensor, t_min: Tensor, length: float):
        super().__init__()
        self.path = nn.Sequential(*path)
        self.synapses = synapses_of(module, efficacies(module.weight.detach()))
        t_max = t_min + length
        for name, time in (
            ("alpha", torch.ones_like(t_min)),
            ("t_min_prev", t_min_prev),
            ("t_min", t_min),
            ("t_max", t_max),
        ):
            self.register_buffer(name, time.clone())
        total = self.total(self.synapses.weight)
        self.register_buffer("theta", thresholds(total, bias_of(module), 1.0, t_min_prev, t_min, t_max))

    def total(self, weight: Tensor) -> Tensor:
        """The sum of each neuron's weights, in the shape in which theta is: (N,) or (C, 1, 1). Float64."""
        return weight.double().flatten(1).sum(1).view(-1, *[1] * (weight.ndim - 2))

    def extra_repr(self) -> str:
        """Its times, for print(net)."""
        return f"t_min_prev={self.t_min_prev:.6g}, t_min={self.t_min:.6g}, t_max={self.t_max:.6g}"


class TTFSOutput(nn.Module):
    """Neurons without a threshold: their potential is read at t_min, V_i = alpha_i (t_min - t_min_prev) + sum W (t_min - t_j).

    rectified: the network ends in a ReLU, so that a negative potential is read as 0.
    """

    def __init__(self, path: list[nn.Module], module: nn.Module, t_min_prev: Tensor, t_min: Tensor, rectified: bool):
        super().__init__()
        self.path = nn.Sequential(*path)
        self.synapses = synapses_of(module, module.weight.detach().clone())
        self.rectified = rectified
        self.register_buffer("t_min_prev", t_min_prev.clone())
        self.register_buffer("t_min", t_min.clone())
        self.register_buffer("alpha", bias_of(module) / (t_min - t_min_prev))

    def extra_repr(self) -> str:
        """Its times, for print(net)."""
        return f"t_min_prev={self.t_min_prev:.6g}, t_min={self.t_min:.6g}"


class TTFSNet(nn.Module):
    """Layers by name, each reading the one before; the last is a `TTFSOutput`. Plain weights and buffers.

    An input x in input_range = [p, q] spikes at 1 - (x - p) / (q - p). zeta: the margin of each layer's interval, which
    lasts B_n = (1 + zeta) X_n.
    """

    def __init__(self, layers: dict[str, nn.Module], input_range: tuple[float, float], zeta: float):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.register_buffer("input_range", torch.tensor(input_range, dtype=torch.float64))
        self.register_buffer("zeta", torch.tensor(zeta, dtype=torch.float64))

    @property
    def latency(self) -> float:
        """When the classes can be read: t_min of the output layer."""
        return float(self.output.t_min)

    @property
    def output(self) -> TTFSOutput:
        """The last layer."""
        return self.layers[list(self.layers)[-1]]

    def extra_repr(self) -> str:
        """Margin and latency, for print(net)."""
        p, q = self.input_range.tolist()
        return f"input_range=[{p:g}, {q:g}], zeta={float(self.zeta):.6g}, latency={self.latency:.6g}"
