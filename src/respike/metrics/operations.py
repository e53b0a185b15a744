"""What one image costs a spiking network, and the ReLU network of the same connections, in operations of each layer.

All counts are of the simulation or of the ReLU network's own pass over the same images; none is estimated.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Node, affine_of, per_channel
from respike.convert.graph.trace import trace
from respike.errors import InputError
from respike.simulate.connections import Connections, fan_out
from respike.simulate.record import SpikeRecord
from respike.simulate.ttfs.record import TTFSRecord

INPUT = "input"
WEIGHTED = ("conv", "linear")
BEGIN = (*WEIGHTED, "relu", "add", "cat")  # kinds of nodes at which a path to a layer begins


@dataclass(frozen=True)
class LayerOperations:
    """Means per image of one layer, or of the input, which has neither weights nor operations.

    neurons: N, or the windows of a max-pool, or the values that a layer without neurons carries. weights: W, stored ones. macs:
    dense multiply-accumulates M of the ReLU network; effective_macs: those with an activation other than 0, None if there is no
    ReLU network. input_macs, current_macs: multiply-accumulates on an analog image, which is the same at each step, and on
    carried currents at each step. accumulates: A, synapses that spikes reach; unweighted: those of A that read no stored
    weight: shortcuts and pools in which every spike reaches as many. spikes: F, that the layer emits. fires: it compares
    potentials with a threshold; of the input, its pixels are spikes. drives: additions per neuron and step that no spike
    causes: a constant current, a leak; where there are none, the potential of a neuron changes by spikes alone.
    """

    name: str
    neurons: int
    weights: int = 0
    macs: int = 0
    effective_macs: float | None = None
    input_macs: int = 0
    current_macs: int = 0
    accumulates: float = 0.0
    unweighted: float = 0.0
    spikes: float = 0.0
    fires: bool = False
    drives: int = 0

    def scaled(self, factor: float) -> "LayerOperations":
        """The same layer with so many times the spikes."""
        return replace(
            self,
            accumulates=factor * self.accumulates,
            unweighted=factor * self.unweighted,
            spikes=factor * self.spikes,
        )


@dataclass(frozen=True)
class Operations:
    """The input and the layers of a network, first to last.

    steps: T; None for a network of spike times, in which a neuron spikes at most once. levels: the grid of spike times, if any.
    """

    layers: tuple[LayerOperations, ...]
    steps: int | None
    levels: int | None = None

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of the ReLU network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def accumulates(self) -> float:
        """Accumulates of the spiking network."""
        return sum(layer.accumulates for layer in self.layers)

    @property
    def spikes_per_synapse(self) -> float:
        """How often a synapse is used per image: accumulates over the dense multiply-accumulates of the ReLU network.

        Without those on an analog image and on carried currents, which spikes never reach.
        """
        reached = self.macs - sum(layer.input_macs + layer.current_macs for layer in self.layers)
        return self.accumulates / max(reached, 1)

    def rows(self) -> dict[str, list[Any]]:
        """The columns of operations.csv; None where a number is not known."""
        shared = {"steps": self.steps, "levels": self.levels}
        rows = [asdict(layer) | shared for layer in self.layers]
        return {name: [row[name] for row in rows] for name in rows[0]}

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[Any, Any]]) -> "Operations":
        """From the rows of operations.csv, in which numbers that are not known are NaN or None.

        Raises TypeError or ValueError for other missing numbers, and for negative ones.
        """
        known = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        kinds = {field.name: field.type if isinstance(field.type, type) else float for field in fields(LayerOperations)}

        def value(row: Mapping[Any, Any], name: str) -> Any:
            if row[name] is None and name == "effective_macs":
                return None
            found = kinds[name](row[name])
            if not isinstance(found, str) and not 0 <= found < math.inf:
                raise ValueError(f"{name} {found}")
            return found

        layers = [LayerOperations(**{name: value(row, name) for name in kinds}) for row in known]
        steps, levels = (known[0][name] for name in ("steps", "levels"))
        return cls(tuple(layers), steps and int(steps), levels and int(levels))


def step_operations(
    record: SpikeRecord,
    connections: Connections,
    *,
    biased: Collection[str],
    leaky: bool = False,
    effective: Mapping[str, float] | None = None,
) -> Operations:
    """The operations of a simulation in steps.

    biased: the layers with a bias, which is a constant current. leaky: potentials change in every step by themselves.
    effective: by layer, the ReLU network's multiply-accumulates on activations other than 0.
    """
    images = record.images
    spiking = {name: int(values.sum()) / images for name, values in record.spikes.items()}
    carried = {layer.name for layer in connections.layers} - record.neurons.keys()
    analog_input = INPUT not in record.spikes
    output = connections.layers[-1].name
    layers = [
        LayerOperations(INPUT, connections.input_shape.numel(), spikes=spiking.get(INPUT, 0.0), fires=not analog_input)
    ]
    for layer in connections.layers:
        pairs = list(zip(layer.sources, layer.macs, layer.fan_outs, strict=True))
        input_macs = sum(macs for source, macs, _ in pairs if source == INPUT and analog_input)
        current_macs = sum(macs for source, macs, _ in pairs if source in carried)
        constant = layer.name in biased or input_macs > 0 or current_macs > 0
        fires = layer.name in record.neurons and layer.name not in record.pools
        layers.append(
            LayerOperations(
                layer.name,
                layer.shape.numel(),
                weights=sum(layer.weights),
                macs=layer.network_macs,
                effective_macs=None if effective is None else effective.get(layer.name, 0.0),
                input_macs=input_macs,
                current_macs=current_macs,
                accumulates=int(record.synops[layer.name].sum()) / images,
                unweighted=sum(
                    spiking.get(source, 0.0) * int(reached.max())
                    for source, macs, reached in pairs
                    if macs == 0 and int(reached.min()) == int(reached.max())
                ),
                spikes=spiking.get(layer.name, 0.0),
                fires=fires,
                drives=int(constant or (layer.name in carried and layer.name != output)) + int(leaky and fires),
            )
        )
    return Operations(tuple(layers), record.steps)


def time_operations(
    record: TTFSRecord,
    weights: Mapping[str, int],
    macs: Mapping[str, int],
    *,
    levels: int | None = None,
    effective: Mapping[str, float] | None = None,
) -> Operations:
    """The operations of a network of spike times. weights, macs: by layer; levels: the grid of spike times, if any."""
    images = record.images
    layers = [LayerOperations(INPUT, record.inputs.pairs // images, spikes=record.inputs.active / images, fires=True)]
    for name, synops in record.synops.items():
        counts = record.counts.get(name)
        layers.append(
            LayerOperations(
                name,
                record.logits.shape[1] if counts is None else counts.pairs // images,
                weights=weights[name],
                macs=macs[name],
                effective_macs=None if effective is None else effective.get(name, 0.0),
                accumulates=synops / images,
                spikes=0.0 if counts is None else counts.active / images,
                fires=counts is not None,
                drives=1,
            )
        )
    return Operations(tuple(layers), None, levels)


@contextmanager
def counted_macs(net: nn.Module, input_shape: Sequence[int] | None = None) -> Iterator[dict[str, int]]:
    """Within the context: by the path of each Linear and Conv2d, its multiply-accumulates on inputs other than 0, exact.

    Summed over the images that pass through the network. Weights of 0 count. input_shape: (C, H, W) of an image; then the shift
    of a batch norm between a ReLU and the layer counts as folded into the layer: what is 0 behind the ReLU is skipped. Not in a
    network that torch.fx cannot trace.
    """
    counts: dict[str, int] = {}
    reached: dict[tuple[str, torch.Size], Tensor] = {}
    shifted = {} if input_shape is None else _shifted_inputs(net, input_shape)

    def count(path: str, x: Tensor) -> None:
        key = path, x.shape[1:]
        if key not in reached:
            bare = copy(net.get_submodule(path))  # with the same weights; this hook counts no calls of the copy
            bare._forward_pre_hooks = OrderedDict()
            reached[key] = fan_out([bare], x.shape[1:])
        counts[path] = counts.get(path, 0) + int(((x != 0).sum(0) * reached[key]).sum())

    def count_unshifted(path: str, x: Tensor) -> None:
        for node in shifted[path][1]:
            affine = affine_of(node)
            x = node.module(x) if affine is None else x * per_channel(affine.factor, x)
        count(path, x)

    hooks = []
    for path, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            begin, counter = (
                (net.get_submodule(shifted[path][0]), count_unshifted) if path in shifted else (module, count)
            )
            hooks.append(
                begin.register_forward_pre_hook(lambda _, inputs, path=path, counter=counter: counter(path, inputs[0]))
            )
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _shifted_inputs(net: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[str, list[Node]]]:
    """For each weighted layer that reads a ReLU through a batch norm: the path of the batch norm, and all nodes from it on.

    By the path of the layer; without modules that the network calls several times.
    """
    try:
        graph, calls = trace(net, input_shape)
    except InputError:  # a user's own conversion may take networks that ours refuse
        return {}
    times = Counter(path for path, _ in calls)
    norms = {
        name: path
        for path, name in calls
        if times[path] == 1 and isinstance(net.get_submodule(path), nn.BatchNorm1d | nn.BatchNorm2d)
    }
    found = {}
    for path, name in calls:
        if times[path] > 1 or not name or not isinstance(net.get_submodule(path), nn.Linear | nn.Conv2d):
            continue
        between: list[Node] = []
        source = graph.nodes[name].inputs[0]
        while source != "input" and graph.nodes[source].kind not in BEGIN:
            between.insert(0, graph.nodes[source])
            source = graph.nodes[source].inputs[0]
        norm = next((i for i, node in enumerate(between) if affine_of(node) is not None), None)
        if source == "input" or graph.nodes[source].kind in WEIGHTED or norm is None:
            continue
        if between[norm].name in norms:
            found[path] = norms[between[norm].name], between[norm:]
    return found
