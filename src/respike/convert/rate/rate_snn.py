"""RateSNN: a feed-forward network of spiking layers, connected as the ReLU network was.

A spiking layer takes the place of a ReLU, a pool or the output. Its drive is its bias and a sum over synapses. Each synapse
starts at one earlier layer, or at the input, and is a linear path with at most one weighted operation. Where the network hands
on values that no ReLU has made positive, a layer of kind "current" carries them without neurons.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Embed, Pad, Scale, Slice, per_channel
from respike.convert.rate.paths import scale_inputs, scale_outputs, through
from respike.convert.saving import SavedNetwork, build_module, describe_module
from respike.errors import InputError
from respike.networks.copying import device_of

WEIGHTED = (nn.Linear, nn.Conv2d, Scale)
Apply = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
ONE_GRID: Mapping[str, float] = {}
Scales = Mapping[str, float | Tensor]  # per layer: one number, or one per channel (C,)


def call(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """module(x)."""
    return module(x)


class Synapse(nn.Sequential):
    """The linear path from one layer (`source`) to another: spikes in, drive out. Stateless."""

    def __init__(self, source: str, *modules: nn.Module):
        super().__init__(*modules)
        self.source = source

    @property
    def weighted(self) -> nn.Linear | nn.Conv2d | Scale | None:
        """The one operation with weights (or a constant factor), or None for a pure pool or identity."""
        return next((module for module in self if isinstance(module, WEIGHTED)), None)

    @property
    def repeats(self) -> bool:
        """Whether the ReLU network has these weights once, for a sum of which this source is not the first term."""
        return any(getattr(module, "repeats", False) for module in self)

    @repeats.setter
    def repeats(self, value: bool) -> None:
        for module in self:
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.repeats = value  # type: ignore[assignment]  # stays with the weights in copies and lists of modules

    @property
    def place(self) -> Embed | None:
        """Where the values lie in a concatenation, if nothing but factors follows it; else None."""
        last = next((module for module in reversed(list(self)) if not isinstance(module, Scale)), None)
        return last if isinstance(last, Embed) else None

    def placed(self, x: Tensor) -> Tensor:
        """The values at `place`, without the zeros around them."""
        place, factors = self.place, False
        assert place is not None
        for module in self:
            if factors and isinstance(module, Scale):
                x = x * per_channel(place.of(module.factor[None])[0] if module.factor.ndim else module.factor, x)
            elif module is place:
                factors = True
            else:
                x = module(x)
        return x

    def rescale(self, source: float | Tensor, target: float | Tensor) -> None:
        """Multiply by the scale of the source, and divide by that of the layer, in place; () or (C,) each."""
        before, behind = torch.as_tensor(source, dtype=torch.float64), torch.as_tensor(target, dtype=torch.float64)
        weighted = self.weighted
        if isinstance(weighted, nn.Linear | nn.Conv2d):
            for module in self:
                if module is weighted:
                    break
                before = through(module, before) if before.ndim else before
            scale_inputs(weighted, before)
            rest, channels = list(self)[list(self).index(weighted) + 1 :], [len(weighted.weight)]
            flattened = False
            for module in rest:
                flattened = flattened or isinstance(module, nn.Flatten)
                if flattened and behind.ndim and isinstance(module, Slice | Pad):
                    raise InputError(
                        "a scale per channel cannot be merged into weights in front of a slice of flattened maps; slice the "
                        "maps, or type convert.scale=layer"
                    )
                channels.append(len(through(module, torch.ones(channels[-1]))))
            for module, width, read in reversed(list(zip(rest, channels[:-1], channels[1:], strict=True))):
                behind = behind if behind.ndim == 0 else _in_front(module, behind, width, read)
            scale_outputs(weighted, 1 / behind)
            return
        self._set_factor(before, behind)

    def _set_factor(self, before: Tensor, behind: Tensor) -> None:
        """Of a path without weights: one factor at its end, or in front of a flattening, takes the place of all others."""
        factor, place = before, None  # place: of a factor per channel of maps that are flattened behind it
        kept: list[nn.Module] = []
        for module in self:
            if isinstance(module, Scale):
                place = place if module.factor.ndim == 0 or len(module.factor) == factor.numel() else None
                factor = _matched(factor, module.factor) * module.factor
                continue
            if isinstance(module, nn.Flatten) and factor.ndim:
                place = len(kept)
            if factor.ndim or isinstance(module, Embed):
                factor = through(module, factor.reshape(-1), math.nan)  # zeros between maps need no factor
            place = None if isinstance(module, Embed) else place
            kept.append(module)
        place = place if behind.ndim == 0 or len(behind) == factor.numel() else None
        factor = (_matched(factor, behind) / behind).nan_to_num(1.0)
        if self.weighted is not None or bool((factor != 1).any()):
            kept.insert(len(kept) if place is None else place, Scale(factor))
        while len(self):
            del self[0]
        self.extend(kept)


def _matched(values: Tensor, others: Tensor) -> Tensor:
    """Values per channel of flattened maps once per place, if the others are per place."""
    return values.repeat_interleave(len(others) // len(values)) if values.ndim and others.ndim else values


def _in_front(module: nn.Module, values: Tensor, width: int, read: int) -> Tensor:
    """Values of the `read` channels behind a module for the `width` channels in front of it; 1 for those that nothing reads.

    values: (read,), or of each place of flattened maps (read places,).
    """
    if isinstance(module, Embed):
        return values[module.before : module.before + module.channels]
    places = values.view(read, -1) if len(values) % read == 0 else values.view(-1, 1)
    if isinstance(module, Slice):
        whole = values.new_ones(width, places.shape[1])
        whole[slice(*module.slices[0])] = places
        return whole.flatten()
    if isinstance(module, Pad) and len(module.padding) == 6:
        before, after = module.padding[4:]
        kept = places[max(0, before) : len(places) - max(0, after)]
        return nn.functional.pad(kept, (0, 0, max(0, -before), max(0, -after)), value=1.0).flatten()
    return values


class SpikingLayer(nn.Module):
    """Neurons and the synapses that end on them.

    kind: "relu"; "pool", an average pool of neurons; "max", a max-pool of spikes; "current", values without neurons; "output".
    bias: drive at every step, per channel (C,) or per neuron (C, H, W), or None. pool: the max-pool of a "max" layer, of its
    spikes; in a "relu" layer of its drive. rule: how a "max" layer passes spikes on, "count" or "gate". start: potential before
    the first step, per neuron (...N), added to that of the neuron model, or None. Raises InputError for a bias in a module of a
    synapse, which files of older versions have.
    """

    synapses: Sequence[Synapse]  # a ModuleList, whose type does not name its elements
    bias: Tensor | None
    start: Tensor | None

    def __init__(
        self,
        kind: str,
        synapses: list[Synapse],
        bias: Tensor | None = None,
        pool: nn.Module | None = None,
        rule: str = "",
        start: Tensor | None = None,
    ):
        super().__init__()
        if any(getattr(synapse.weighted, "bias", None) is not None for synapse in synapses):
            raise InputError("a synapse holds a bias, as in older versions of respike; now the layer has it")
        self.kind, self.pool, self.rule = kind, pool, rule
        self.synapses = nn.ModuleList(synapses)  # type: ignore[assignment]
        self.register_buffer("bias", bias)
        self.register_buffer("start", start)

    def drive(self, values: Mapping[str, Tensor], apply: Apply = call, grids: Mapping[str, float] = ONE_GRID) -> Tensor:
        """The drive (rows, ...N), given the spikes or currents (rows, ...) of each source by its name.

        apply: how a module is applied to values, with `over_time` to (T or 1, B, ...). grids: in fixed point, by source of
        currents, by what its products are divided and then rounded.
        """
        rows = max(len(values[source]) for source in self.sources)
        placed = all(synapse.place for synapse in self.synapses)  # then nothing is added to the zeros around each part
        total: Tensor | None = None
        for synapse in self.synapses:
            place = synapse.place if placed else None
            part = apply(synapse.placed if place else synapse, values[synapse.source])
            if synapse.source in grids:
                part = (part / grids[synapse.source]).round_()
            if place is None:
                total = part if total is None else total + part
            elif total is None:
                total = apply(place, part)
                total = total if len(total) == rows else total.expand(rows, *total.shape[1:]).clone()
            else:
                apply(place.of, total).add_(part)
        assert total is not None
        return apply(self.driven, total)

    def driven(self, total: Tensor) -> Tensor:
        """The drive from the sum of the synapses: with the bias, and pooled where the layer pools its drive."""
        if self.bias is not None and self.bias.ndim == 1:
            bias = self.bias.repeat_interleave(total.shape[1] // len(self.bias))  # once per place of flattened maps
            total = total + per_channel(bias, total)
        elif self.bias is not None:
            total = total + self.bias.to(total.dtype)
        return total if self.pool is None or self.kind == "max" else self.pool(total)

    @property
    def sources(self) -> list[str]:
        """Names of the layers, or "input", at which the synapses start."""
        return [synapse.source for synapse in self.synapses]


class RateSNN(SavedNetwork):
    """Spiking layers by name, each after its sources; plain weights and buffers. The last one is the output.

    scales: per layer, the ReLU activation that one spike per step represents, one number or one per channel (C,), which is the
    product of all factors by which normalizations divided the weights on the way. factors: per layer, the number by which the
    last normalization divided its weights (the mean over channels). readout: "counts", the class with most output spikes, or
    "current", the class with the largest summed output current.
    """

    layers: Mapping[str, SpikingLayer]  # a ModuleDict

    def __init__(self, layers: dict[str, SpikingLayer], readout: str = "counts"):
        super().__init__()
        self.layers = nn.ModuleDict(layers)  # type: ignore[assignment]
        self.readout = readout
        self.scales: dict[str, float | Tensor] = {name: 1.0 for name in layers}
        self.factors: dict[str, float] = {}

    @property
    def output(self) -> str:
        """Name of the output layer."""
        return list(self.layers)[-1]

    def layer(self, name: str) -> SpikingLayer:
        """The layer of this name."""
        found = self.layers[name]
        assert isinstance(found, SpikingLayer)
        return found

    def rescale(self, scales: Scales) -> None:
        """Divide each layer's activation by its scale: W *= scale of the source / scale, b /= scale. In place.

        The network's function stays the same up to the scale of the output. A pool must have the scale of its source.
        """
        device = device_of(self)
        self.cpu()  # where the scales are
        scales = {"input": 1.0} | dict(scales)
        for name, layer in self.layers.items():
            for synapse in layer.synapses:
                synapse.rescale(scales[synapse.source], scales[name])
            if layer.bias is not None:
                scale = torch.as_tensor(scales[name], dtype=layer.bias.dtype, device=layer.bias.device)
                layer.bias = layer.bias / (scale if layer.bias.ndim == 1 else scale.view(-1, 1, 1))
            if layer.start is not None:
                layer.start = (layer.start[None] / per_channel(torch.as_tensor(scales[name]), layer.start[None]))[0]
        self.scales = {name: self.scales[name] * scales[name] for name in self.layers}
        self.to(device)

    def description(self) -> dict[str, Any]:
        """Layers with their kind and synapses, scales and factors, in plain data. Raises InputError as `describe_module`."""
        layers = [
            {
                "name": name,
                "kind": layer.kind,
                "synapses": [
                    {"source": synapse.source, "modules": [describe_module(module, name) for module in synapse]}
                    | ({"repeats": True} if synapse.repeats else {})
                    for synapse in layer.synapses
                ],
                "bias": None if layer.bias is None else list(layer.bias.shape),
                "pool": None if layer.pool is None else describe_module(layer.pool, name),
                "rule": layer.rule,
                "start": None if layer.start is None else list(layer.start.shape),
            }
            for name, layer in self.layers.items()
        ]
        scales = {name: s.tolist() if isinstance(s, Tensor) else s for name, s in self.scales.items()}
        return {"layers": layers, "scales": scales, "factors": dict(self.factors), "readout": self.readout}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The network of a description, its weights not yet set."""
        layers = {}
        for layer in description["layers"]:
            synapses = [
                Synapse(synapse["source"], *(build_module(module) for module in synapse["modules"]))
                for synapse in layer["synapses"]
            ]
            for synapse, described in zip(synapses, layer["synapses"], strict=True):
                synapse.repeats = described.get("repeats", False)
            bias = None if layer.get("bias") is None else torch.empty(layer["bias"])
            pool = None if layer.get("pool") is None else build_module(layer["pool"])
            start = None if layer.get("start") is None else torch.empty(layer["start"])
            layers[layer["name"]] = SpikingLayer(layer["kind"], synapses, bias, pool, layer.get("rule", ""), start)
        network = cls(layers, description.get("readout", "counts"))
        network.scales = {
            name: torch.tensor(scale, dtype=torch.float64, device="cpu") if isinstance(scale, list) else scale
            for name, scale in description["scales"].items()
        }
        network.factors = dict(description["factors"])
        return network
