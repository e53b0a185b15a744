"""RateSNN: a feed-forward network of spiking layers, wired as the ReLU network was.

A spiking layer stands where a ReLU, an average pool or the output was. Its drive is a sum of synapses, each from
one earlier spiking layer (or the input) through flattening, pooling and at most one weighted operation.
"""

from torch import Tensor, nn

from respike.convert.graph.nodes import Scale

WEIGHTED = (nn.Linear, nn.Conv2d, Scale)


class Synapse(nn.Sequential):
    """The linear path from one spiking layer (`source`) to another: spikes in, drive out. No state."""

    def __init__(self, source: str, *modules: nn.Module):
        super().__init__(*modules)
        self.source = source

    @property
    def weighted(self) -> nn.Module | None:
        """The one operation with weights (or a constant factor), or None for a pure pool or identity."""
        return next((module for module in self if isinstance(module, WEIGHTED)), None)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the weighted operation, or None."""
        return getattr(self.weighted, "bias", None)

    def rescale(self, factor: float, bias_factor: float) -> None:
        """Multiply the weights and the bias in place."""
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
    """Synapses that end on the same neurons; `kind` is "relu", "pool" or "output"."""

    def __init__(self, kind: str, synapses: list[Synapse]):
        super().__init__()
        self.kind = kind
        self.synapses = nn.ModuleList(synapses)

    def drive(self, spikes: dict[str, Tensor]) -> Tensor:
        """The summed drive (rows, ...N) from the spikes of its sources (rows, ...), by name."""
        return sum(synapse(spikes[synapse.source]) for synapse in self.synapses)

    @property
    def sources(self) -> list[str]:
        """Names of the layers it reads."""
        return [synapse.source for synapse in self.synapses]


class RateSNN(nn.Module):
    """Spiking layers by name, each after its sources; plain weights and buffers. The last one is the output.

    `scales` tells, per layer, which ReLU activation one spike per step stands for (the product of all factors its
    weights were divided by), and `factors` what a normalization divided each layer's weights by.
    """

    def __init__(self, layers: dict[str, SpikingLayer]):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.scales: dict[str, float] = {name: 1.0 for name in layers}
        self.factors: dict[str, float] = {}

    @property
    def output(self) -> str:
        """Name of the output layer."""
        return list(self.layers)[-1]

    def rescale(self, scales: dict[str, float]) -> None:
        """Divide each layer's activation by its scale: W *= scale of the source / scale, b /= scale. In place.

        The network function is unchanged up to the scale of the output: a pool takes on the scale of its source.
        """
        scales = {"input": 1.0} | scales
        for name, layer in self.layers.items():
            for synapse in layer.synapses:
                synapse.rescale(scales[synapse.source] / scales[name], 1 / scales[name])
        self.scales = {name: self.scales[name] * scales[name] for name in self.layers}
