"""TTFSNet: layers in which every neuron fires once (Stanojevic et al. 2023). Equations: neurons/ttfs.py."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import BiasMapConv2d, Weighted, conv_settings
from respike.convert.saving import SavedNetwork, build_module, describe_module
from respike.errors import InputError
from respike.neurons.ttfs import efficacies, thresholds


@dataclass
class Ranges:
    """What the hidden layers, named by their weighted operation, reach over the calibration images.

    largest: largest activation X_n. active: share of activations above 0. upper_bounds: largest sum_j W+_ij x_j + b_i, in ReLU
    values, which no potential exceeds at any time; empty if not measured.
    """

    largest: dict[str, float] = field(default_factory=dict)
    active: dict[str, float] = field(default_factory=dict)
    upper_bounds: dict[str, float] = field(default_factory=dict)

    def safe_zeta(self) -> float:
        """The smallest zeta at which the bound certifies every neuron on every calibration image."""
        ratios = [self.upper_bounds[name] / self.largest[name] for name in self.largest]
        return max(ratios, default=1.0) * (1 + 1e-9) - 1


def unit_leads(images: Tensor, input_range: tuple[float, float], dtype: torch.dtype) -> Tensor:
    """Leads of the input spikes: (x - p) / (q - p) for images in [p, q]. Raises InputError for a pixel outside."""
    p, q = input_range
    low, high = float(images.min()), float(images.max())
    if not p <= low <= high <= q:
        raise InputError(
            f"images between {low:.4g} and {high:.4g} leave the input range [{p:g}, {q:g}] of the mapping; "
            f"give convert.input_range=[{_outward(min(low, p), math.floor)},{_outward(max(high, q), math.ceil)}], or images "
            "within it"
        )
    return (images.to(dtype) - p) / (q - p)


def _outward(bound: float, to: Callable[[float], int]) -> str:
    """A bound rounded to four decimals by floor or ceil, so that it holds what it was measured on."""
    return f"{to(bound * 10**4) / 10**4:.4f}".rstrip("0").rstrip(".")


def bias_of(module: Weighted) -> Tensor:
    """The bias of a weighted layer as it is added to its output: (N,), (C, 1, 1) or (C, H, W); zeros if it has none."""
    if isinstance(module, BiasMapConv2d):
        return module.bias_map
    bias = module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias.detach()
    return bias.view(-1, *[1] * (module.weight.ndim - 2))


def synapses_of(module: Weighted, weight: Tensor) -> Weighted:
    """A layer with the connections of `module`, the given weights, and no bias."""
    synapses: Weighted
    if isinstance(module, nn.Linear):
        synapses = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    else:
        synapses = nn.Conv2d(**conv_settings(module), bias=False, device="meta")
    synapses.weight = nn.Parameter(weight, requires_grad=False)
    return synapses


class Branches(nn.Module):
    """Several sources of a layer: their spikes, selected and copied by a path each, one after the other as channels.

    branches: (source, modules), where a source is "input" or a layer. The spikes of a source are delayed by the layer's t_min
    minus the source's t_max, so that all intervals end at t_min: leads do not change.
    """

    def __init__(self, branches: Sequence[tuple[str, Sequence[nn.Module]]]):
        super().__init__()
        self.sources = tuple(source for source, _ in branches)
        self.paths = nn.ModuleList(nn.Sequential(*path) for _, path in branches)

    def forward(self, *leads: Tensor) -> Tensor:
        """Leads (B, ...) of each source -> those of the inputs of the synapses (B, K, ...)."""
        found = [path(lead) for path, lead in zip(self.paths, leads, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def extra_repr(self) -> str:
        """The sources, for print(net)."""
        return f"sources={self.sources}"


Path = Sequence[nn.Module] | Branches


class TTFSLayer(nn.Module):
    """Neurons that fire when their potential V reaches theta.

    path: the max-pools (earliest spike, or latest), flattening and windows between the layer before and the synapses, or
    `Branches` of other sources. synapses: weights J; macs: of each weight, the multiply-accumulates of the ReLU network that it
    stands for: 0 where no synapse is, less than 1 where it is one of several in a mean; None for 1 everywhere.
    alpha: the constant drive, which starts at t_min_prev, the t_min of the source. Spikes lie in [t_min, t_max].
    theta: (N,), (C, 1, 1) or (C, H, W).
    """

    kind = "hidden"  # in a description

    def __init__(
        self,
        path: Path,
        synapses: Weighted,
        alpha: Tensor,
        t_min_prev: Tensor,
        t_min: Tensor,
        t_max: Tensor,
        theta: Tensor,
        macs: Tensor | None = None,
    ):
        super().__init__()
        self.path = path if isinstance(path, Branches) else nn.Sequential(*path)
        self.synapses = synapses
        self.register_buffer("macs", macs)
        self.register_buffer("alpha", alpha)
        self.register_buffer("t_min_prev", t_min_prev)
        self.register_buffer("t_min", t_min)
        self.register_buffer("t_max", t_max)
        self.register_buffer("theta", theta)

    @classmethod
    def from_relu_layer(cls, path: Path, module: Weighted, t_min_prev: Tensor, t_min: Tensor, length: float) -> Self:
        """The neurons that represent a ReLU layer.

        module: its Linear or Conv2d, whose weights must sum to less than 1 for every neuron; length: B_n = t_max - t_min.
        """
        synapses = synapses_of(module, efficacies(module.weight.detach()))
        t_max = t_min + length
        theta = thresholds(cls.total(synapses.weight), bias_of(module), 1.0, t_min_prev, t_min, t_max)
        times = t_min_prev.clone(), t_min.clone(), t_max
        return cls(path, synapses, torch.ones_like(t_min), *times, theta, macs_of(module))

    @staticmethod
    def total(weight: Tensor) -> Tensor:
        """The sum of each neuron's weights (N, ...F), in float64, with the number of axes of theta: (N,) or (C, 1, 1)."""
        return weight.double().flatten(1).sum(1).view(-1, *[1] * (weight.ndim - 2))

    def description(self, name: str) -> dict[str, Any]:
        """The layer in plain data."""
        return _described(self, name, self.kind) | {"theta_shape": list(self.theta.shape)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The layer of a description, its weights and times not yet set."""
        path, synapses = _path_and_synapses(description)
        return cls(
            path,
            synapses,
            alpha=torch.empty(()),
            t_min_prev=torch.empty(()),
            t_min=torch.empty(()),
            t_max=torch.empty(()),
            theta=torch.empty(description["theta_shape"]),
            macs=torch.empty_like(synapses.weight) if description.get("macs") else None,
        )

    def extra_repr(self) -> str:
        """The layer's times, for print(net)."""
        return f"t_min_prev={self.t_min_prev:.6g}, t_min={self.t_min:.6g}, t_max={self.t_max:.6g}"


class B1Layer(TTFSLayer):
    """Neurons of the B1 model (Stanojevic et al. 2024), whose weights are those of the ReLU network, J = W.

    Until t_min, dV/dt is the sum of the weights of the spikes so far; from t_min on it is alpha, whatever the inputs were, and
    V is compared with theta. An activation above t_max - t_min is therefore a spike at t_min.
    """

    kind = "b1"

    @classmethod
    def from_relu_layer(cls, path: Path, module: Weighted, t_min_prev: Tensor, t_min: Tensor, length: float) -> Self:
        """The neurons that represent a ReLU layer: theta_i = t_max - t_min - b_i, for any sums of weights."""
        synapses = synapses_of(module, module.weight.detach().clone())
        theta = length - bias_of(module)
        times = t_min_prev.clone(), t_min.clone(), t_min + length
        return cls(path, synapses, torch.ones_like(t_min), *times, theta, macs_of(module))


class TTFSOutput(nn.Module):
    """Neurons without a threshold: their potential is read at t_min, V_i = alpha_i (t_min - t_min_prev) + sum W (t_min - t_j).

    path, synapses, t_min_prev, t_min: as in `TTFSLayer`, with the weights W of the ReLU network. rectified: the network ends
    with a ReLU, so a negative potential is read as 0.
    """

    def __init__(
        self,
        path: Path,
        synapses: Weighted,
        alpha: Tensor,
        t_min_prev: Tensor,
        t_min: Tensor,
        rectified: bool,
        macs: Tensor | None = None,
    ):
        super().__init__()
        self.path = path if isinstance(path, Branches) else nn.Sequential(*path)
        self.synapses = synapses
        self.register_buffer("macs", macs)
        self.rectified = rectified
        self.register_buffer("t_min_prev", t_min_prev)
        self.register_buffer("t_min", t_min)
        self.register_buffer("alpha", alpha)

    @classmethod
    def from_relu_layer(cls, path: Path, module: Weighted, t_min_prev: Tensor, t_min: Tensor, rectified: bool) -> Self:
        """The output neurons that represent the last weighted layer of a ReLU network."""
        synapses = synapses_of(module, module.weight.detach().clone())
        alpha = bias_of(module) / (t_min - t_min_prev)
        return cls(path, synapses, alpha, t_min_prev.clone(), t_min.clone(), rectified, macs_of(module))

    def description(self, name: str) -> dict[str, Any]:
        """The layer in plain data."""
        return _described(self, name, "output") | {"alpha_shape": list(self.alpha.shape), "rectified": self.rectified}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The layer of a description, its weights and times not yet set."""
        path, synapses = _path_and_synapses(description)
        return cls(
            path,
            synapses,
            alpha=torch.empty(description["alpha_shape"]),
            t_min_prev=torch.empty(()),
            t_min=torch.empty(()),
            rectified=description["rectified"],
            macs=torch.empty_like(synapses.weight) if description.get("macs") else None,
        )

    def extra_repr(self) -> str:
        """The layer's times, for print(net)."""
        return f"t_min_prev={self.t_min_prev:.6g}, t_min={self.t_min:.6g}"


def macs_of(module: Weighted) -> Tensor | None:
    """What folding has noted of the connections of a weighted layer: `macs` of `TTFSLayer`."""
    found = getattr(module, "macs", None)
    return found.float() if isinstance(found, Tensor) else None


def _described(layer: TTFSLayer | TTFSOutput, name: str, kind: str) -> dict[str, Any]:
    def described(modules: nn.Module) -> list[dict[str, Any]]:
        return [describe_module(module, name) for module in modules.children()]

    path: Any
    if isinstance(layer.path, Branches):
        path = {"sources": list(layer.path.sources), "paths": [described(one) for one in layer.path.paths]}
    else:
        path = described(layer.path)
    noted = {} if layer.macs is None else {"macs": True}
    return {"name": name, "kind": kind, "path": path, "synapses": describe_module(layer.synapses, name)} | noted


def _path_and_synapses(description: dict[str, Any]) -> tuple[Path, Weighted]:
    """The modules of a description. Raises InputError if the synapses are neither a Linear nor a Conv2d."""
    synapses, path = build_module(description["synapses"]), description["path"]
    if not isinstance(synapses, nn.Linear | nn.Conv2d):
        raise InputError(
            f"the synapses of {description['name']} are a {type(synapses).__name__}, not a Linear or Conv2d"
        )
    if isinstance(path, dict):
        paths = [[build_module(module) for module in one] for one in path["paths"]]
        return Branches(list(zip(path["sources"], paths, strict=True))), synapses
    return [build_module(module) for module in path], synapses


class TTFSNet(SavedNetwork):
    """Layers by name, each reading the one before or its `Branches`; the last is a `TTFSOutput`. Plain weights and buffers.

    An input x in input_range = [p, q] spikes at 1 - (x - p) / (q - p). zeta: the margin of each layer's interval, whose length
    is B_n = (1 + zeta) X_n. ranges: what was measured on the calibration images, None if unknown.
    """

    def __init__(
        self,
        layers: Mapping[str, TTFSLayer | TTFSOutput],
        input_range: tuple[float, float],
        zeta: float,
        ranges: Ranges | None = None,
    ):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.register_buffer("input_range", torch.tensor(input_range, dtype=torch.float64))
        self.register_buffer("zeta", torch.tensor(zeta, dtype=torch.float64))
        self.ranges = ranges

    @property
    def latency(self) -> float:
        """Time at which the classes can be read: t_min of the output layer."""
        return float(self.output.t_min)

    @property
    def output(self) -> TTFSOutput:
        """The last layer."""
        output = self.layers[list(self.layers)[-1]]
        assert isinstance(output, TTFSOutput)
        return output

    def sources(self, name: str) -> tuple[str, ...]:
        """What a layer reads: names of layers, or "input"."""
        path, names = self.layers[name].path, ["input", *self.layers]
        return path.sources if isinstance(path, Branches) else (names[names.index(name) - 1],)

    def inputs(self, leads: Mapping[str, Tensor], name: str) -> Tensor:
        """Leads (B, ...) of what the synapses of a layer read, from those of the spikes of its sources, by name."""
        return self.layers[name].path(*(leads[source] for source in self.sources(name)))

    def description(self) -> dict[str, Any]:
        """Layers, input range, zeta and ranges in plain data. Raises InputError as `describe_module`."""
        return {
            "layers": [layer.description(name) for name, layer in self.layers.items()],
            "input_range": self.input_range.tolist(),
            "zeta": self.zeta.item(),
            "ranges": None if self.ranges is None else asdict(self.ranges),
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The network of a description, its weights and times not yet set."""
        kinds: dict[str, type[TTFSLayer | TTFSOutput]] = {layer.kind: layer for layer in (TTFSLayer, B1Layer)} | {
            "output": TTFSOutput
        }
        layers = {layer["name"]: kinds[layer["kind"]].from_description(layer) for layer in description["layers"]}
        ranges = description["ranges"]
        return cls(
            layers, description["input_range"], description["zeta"], None if ranges is None else Ranges(**ranges)
        )

    def extra_repr(self) -> str:
        """Margin and latency, for print(net)."""
        p, q = self.input_range.tolist()
        return f"input_range=[{p:g}, {q:g}], zeta={float(self.zeta):.6g}, latency={self.latency:.6g}"
