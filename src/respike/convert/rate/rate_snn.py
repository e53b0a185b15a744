"""RateSNN: a feed-forward network of spiking layers, connected as the ReLU network was.

A spiking layer takes the place of a ReLU, an average pool or the output. Its drive is a sum over synapses. Each synapse starts
at one earlier spiking layer, or at the input, and passes through flattening, pooling and at most one weighted operation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from respike.convert.graph.nodes import Scale
from respike.convert.saving import SavedNetwork, build_module, describe_module

WEIGHTED = (nn.Linear, nn.Conv2d, Scale)


class Synapse(nn.Sequential):
    """The linear path from one spiking layer (`source`) to another: spikes in, drive out. Stateless."""

    def __init__(self, source: str, *modules: nn.Module):
        super().__init__(*modules)
        self.source = source

    @property
    def weighted(self) -> nn.Linear | nn.Conv2d | Scale | None:
        """The one operation with weights (or a constant factor), or None for a pure pool or identity."""
        return next((module for module in self if isinstance(module, WEIGHTED)), None)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the weighted operation, or None."""
        return getattr(self.weighted, "bias", None)

    def rescale(self, factor: float, bias_factor: float) -> None:
        """Multiply the weights by `factor` and the bias by `bias_factor`, in place."""
        weighted = self.weighted
        if isinstance(weighted, nn.Linear | nn.Conv2d):
            weighted.weight.data *= factor
            if weighted.bias is not None:
                weighted.bias.data *= bias_factor
        elif isinstance(weighted, Scale):
            weighted.factor *= factor
        elif factor != 1:
            self.append(Scale(factor))


class SpikingLayer(nn.Module):
    """Neurons and the synapses that end on them; `kind` is "relu", "pool" or "output"."""

    synapses: Sequence[Synapse]  # a ModuleList, whose type does not name its elements

    def __init__(self, kind: str, synapses: list[Synapse]):
        super().__init__()
        self.kind = kind
        self.synapses = nn.ModuleList(synapses)  # type: ignore[assignment]

    def drive(self, spikes: dict[str, Tensor]) -> Tensor:
        """The summed drive (rows, ...N), given the spikes (rows, ...) of each source by its name."""
        return sum(synapse(spikes[synapse.source]) for synapse in self.synapses)

    @property
    def sources(self) -> list[str]:
        """Names of the layers, or "input", at which the synapses start."""
        return [synapse.source for synapse in self.synapses]


class RateSNN(SavedNetwork):
    """Spiking layers by name, each after its sources; plain weights and buffers. The last one is the output.

    scales: per layer, the ReLU activation that one spike per step represents, which is the product of all factors by which
    normalizations divided the weights on the way. factors: per layer, the number by which the last normalization divided its
    weights.
    """

    layers: Mapping[str, SpikingLayer]  # a ModuleDict

    def __init__(self, layers: dict[str, SpikingLayer]):
        super().__init__()
        self.layers = nn.ModuleDict(layers)  # type: ignore[assignment]
        self.scales: dict[str, float] = {name: 1.0 for name in layers}
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

    def rescale(self, scales: dict[str, float]) -> None:
        """Divide each layer's activation by its scale: W *= scale of the source / scale, b /= scale. In place.

        The network's function stays the same up to the scale of the output. A pool must have the scale of its source.
        """
        scales = {"input": 1.0} | scales
        for name, layer in self.layers.items():
            for synapse in layer.synapses:
                synapse.rescale(scales[synapse.source] / scales[name], 1 / scales[name])
        self.scales = {name: self.scales[name] * scales[name] for name in self.layers}

    def description(self) -> dict[str, Any]:
        """Layers with their kind and synapses, scales and factors, in plain data. Raises InputError as `describe_module`."""
        layers = [
            {
                "name": name,
                "kind": layer.kind,
                "synapses": [
                    {"source": synapse.source, "modules": [describe_module(module, name) for module in synapse]}
                    for synapse in layer.synapses
                ],
            }
            for name, layer in self.layers.items()
        ]
        return {"layers": layers, "scales": dict(self.scales), "factors": dict(self.factors)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The network of a description, its weights not yet set."""
        layers = {}
        for layer in description["layers"]:
            synapses = [
                Synapse(synapse["source"], *(build_module(module) for module in synapse["modules"]))
                for synapse in layer["synapses"]
            ]
            layers[layer["name"]] = SpikingLayer(layer["kind"], synapses)
        network = cls(layers)
        network.scales = dict(description["scales"])
        network.factors = dict(description["factors"])
        return network
