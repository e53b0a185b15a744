"""What becomes of each operation of a network when it is converted to spike rates."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import CappedReLU, Graph, Node
from respike.convert.graph.trace import KINDS, trace
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.wiring import build_rate_snn
from respike.networks.copying import eval_copy
from respike.networks.qcfs import QCFS


@dataclass(frozen=True)
class Operation:
    """One operation of a network's forward.

    name: of a module, its path in the network. what: the operation with its settings. shape: of its value, without the batch.
    becomes: what it is in the spiking network. layer: the layer whose values are those of this operation, "" if none has them.
    into: the layers that its value is part of.
    """

    name: str
    what: str
    shape: tuple[int, ...]
    becomes: str
    layer: str = ""
    into: tuple[str, ...] = ()


@dataclass(frozen=True)
class Anatomy:
    """A network as it is converted: its operations in order, the spiking layers with its weights, the node of each layer, and
    the graph that these nodes are of."""

    operations: list[Operation]
    snn: RateSNN
    node_of_layer: dict[str, str]
    graph: Graph


def dissect(net: nn.Module, input_shape: Sequence[int], **wiring: Any) -> Anatomy:
    """Read a network for images of shape (C, H, W), without images. wiring: keywords of `build_rate_snn`.

    The graph shares the network's weights. Raises InputError for a network that cannot be converted.
    """
    raw, calls = trace(eval_copy(net, share=True), input_shape)
    snn, node_of_layer, graph = build_rate_snn(fold_batch_norms(raw), **wiring, input_shape=input_shape)
    modules = dict(net.named_modules())
    paths = {name: path for path, name in reversed(calls) if name}
    dropped: dict[str, list[str]] = defaultdict(list)  # node -> paths of modules behind it that do nothing
    for path, name in calls:
        if name and isinstance(modules[path], KINDS["identity"]):
            dropped[name].append(path)
            paths.pop(name, None) if paths.get(name) == path else None
    shapes = raw.shapes(input_shape)
    fates = _Fates(raw, graph, snn, node_of_layer)
    operations = [
        Operation(path, _what(modules[path]), tuple(shapes["input"]), "dropped: does nothing at test")
        for path in dropped["input"]
    ]
    for name, node in raw.nodes.items():
        becomes, layer = fates.of(node)
        into = tuple(fates.ends.get(name, ()))
        operations.append(Operation(paths.get(name, name), _described(node), tuple(shapes[name]), becomes, layer, into))
        operations += [
            Operation(path, _what(modules[path]), tuple(shapes[name]), "dropped: does nothing at test")
            for path in dropped[name]
        ]
    return Anatomy(operations, snn, node_of_layer, graph)


class _Fates:
    """Says of each node of the raw graph what it becomes. graph: the one whose nodes are layers of the spiking network."""

    def __init__(self, raw: Graph, graph: Graph, snn: RateSNN, node_of_layer: dict[str, str]):
        self.raw, self.graph, self.snn = raw, graph, snn
        self.layers = {node: layer for layer, node in node_of_layer.items()}
        for node, layer in list(self.layers.items()):
            if graph.nodes[node].kind == "dropout_scale":  # the layer is the ReLU in front
                self.layers[graph.nodes[node].inputs[0]] = layer
        self.ends: dict[str, list[str]] = {}  # node -> the layers that its value is part of
        readers: dict[str, list[str]] = defaultdict(list)
        for reader in graph.nodes.values():
            for source in reader.inputs:
                readers[source].append(reader.name)
        for name in reversed(graph.nodes):
            reached = [[self.layers[one]] if one in self.layers else self.ends[one] for one in readers[name]]
            self.ends[name] = list(dict.fromkeys(layer for part in reached for layer in part))

    def of(self, node: Node) -> tuple[str, str]:
        """What a node becomes, and the name of the layer that it is, or ""."""
        if node.name not in self.graph.nodes:
            if node.kind == "batchnorm":
                return f"folded into {self._weights_in_front(node)}", ""
            return "dropped: the largest output stays the largest", ""
        now = self.graph.nodes[node.name]
        if node.name in self.layers:
            return self._layer(now, self.layers[node.name]), self.layers[node.name]
        ends = self.ends[node.name]
        into = ends[0] if len(ends) == 1 else f"{len(ends)} layers"
        if now.kind != node.kind:
            return f"replaced by an average pool, part of {into}", ""
        parts = {
            "conv": f"weights of {into}",
            "linear": f"weights of {into}",
            "add": f"branches summed in {into}",
            "cat": f"its parts feed {into}",
            "avgpool": f"linear, part of the synapses of {into}",
            "flatten": "shape only",
            "relu": f"neurons behind the pool, {into}",
            "pad": f"zeros in the synapses of {into}",
            "slice": f"selects the synapses of {into}",
        }
        return parts.get(now.kind, f"factor and shift merged into {into}"), ""

    def _layer(self, node: Node, name: str) -> str:
        layer = self.snn.layers[name]
        kinds = {
            "relu": f"neurons {name}",
            "pool": f"neurons that average, {name}",
            "max": f"max unit by {'counts' if layer.rule == 'count' else 'the rate-gated winner'}",
            "current": "current without neurons, read by MACs",
            "output": "read-out by summed current" if self.snn.readout == "current" else "output neurons",
        }
        text = kinds[layer.kind]
        if layer.kind == "relu" and node.kind == "maxpool":
            text = f"maximum of currents, then neurons {name}"
        if isinstance(node.module, CappedReLU):
            text += f", capped at {node.module.cap:g}"
        if isinstance(node.module, QCFS):
            text += f", threshold {float(node.module.threshold):.4g}"
        return text

    def _weights_in_front(self, node: Node) -> str:
        while node.kind not in ("conv", "linear") and node.inputs[0] in self.raw.nodes:
            node = self.raw.nodes[node.inputs[0]]
        return node.name


def _described(node: Node) -> str:
    if isinstance(node.module, CappedReLU):
        return f"ReLU, at most {node.module.cap:g}"
    if isinstance(node.module, QCFS):
        return f"QCFS, {node.module.levels} levels"
    return {"add": "add", "cat": "cat", "scale": "factor", "affine": "factor and shift"}.get(node.kind) or _what(
        node.module
    )


def _what(module: nn.Module) -> str:
    """A module in a few words, as in "Conv2d 3x3 /2 groups 32"."""
    words = [type(module).__name__]
    for name, form in (("kernel_size", "{}"), ("stride", "/{}"), ("groups", "groups {}")):
        value = getattr(module, name, None)
        plain = value in (None, 1, (1, 1)) or (name == "stride" and value == getattr(module, "kernel_size", None))
        if name == "kernel_size" and value is not None:
            height, width = value if isinstance(value, tuple) else (value, value)
            words.append(f"{height}x{width}")
        elif not plain and not isinstance(module, nn.Linear):
            words.append(form.format(value[0] if isinstance(value, tuple) else value))
    if getattr(module, "ceil_mode", False):
        words.append("ceil")
    return " ".join(words)
