"""The exact mappings of a ReLU network to spike times: phase 1, then ranges, then phase 2 (Stanojevic et al. 2023, 2024)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from respike.convert.calibration import EMPTY, Images, first_images, images_shape
from respike.convert.exact.preprocessing import preprocess
from respike.convert.exact.ranges import measure_ranges
from respike.convert.exact.ttfs_net import B1Layer, Branches, TTFSLayer, TTFSNet, TTFSOutput
from respike.convert.graph.nodes import CappedReLU, Graph, Node
from respike.errors import InputError


def exact_map(
    net: nn.Module,
    images: Images,
    *,
    zeta: float | str = 0.5,
    input_range: Sequence[float] = (0.0, 1.0),
    weight_bounds: Sequence[float] = (-10.0, 0.99),
) -> TTFSNet:
    """The spiking network whose spike times represent the activations of the ReLU network; float64. `net` is not changed.

    images: the training set, (B, C, H, W) within input_range, uint8 pixels, or an iterable of such tensors; they give X_n.
    zeta: margin of each layer's interval, above -1; "auto" is the smallest margin at which the bound certifies every neuron on
    every training image. input_range, weight_bounds: as in `preprocess`. The result keeps the measured ranges as `ranges`.
    Raises InputError for a network without an exact mapping, SilentLayer for a layer that no image activates.
    """
    if not isinstance(zeta, str):
        _check_zeta(zeta)
    elif zeta != "auto":
        raise InputError(f"convert.zeta={zeta}: a number above -1, or convert.zeta=auto")
    few, images = first_images(images)
    graph = preprocess(net, _shape(few), input_range, weight_bounds, images=few)
    p, q = input_range
    ranges = measure_ranges(graph, images, (p, q), upper_bounds=zeta == "auto")
    snn = map_graph(graph, ranges.largest, ranges.safe_zeta() if zeta == "auto" else float(zeta), input_range)
    snn.ranges = ranges
    return snn


def b1_map(net: nn.Module, images: Images, *, zeta: float = 0.5, input_range: Sequence[float] = (0.0, 1.0)) -> TTFSNet:
    """The spiking network of B1 neurons (Stanojevic et al. 2024) with the weights of the ReLU network; float64.

    J = W, and a bias changes the threshold alone, so no weights are scaled. images, zeta, input_range: as in `exact_map`. The
    interval of a layer whose activations are capped, as by ReLU6 or in a network trained with lit.quantile, ends at the cap.
    Raises InputError and SilentLayer as `exact_map`.
    """
    _check_zeta(zeta)
    few, images = first_images(images)
    graph = preprocess(net, _shape(few), input_range, None, images=few)
    p, q = input_range
    ranges = measure_ranges(graph, images, (p, q))
    snn = map_graph(graph, ranges.largest, zeta, input_range, B1Layer)
    snn.ranges = ranges
    return snn


def map_graph(
    graph: Graph,
    largest: dict[str, float],
    zeta: float,
    input_range: Sequence[float] = (0.0, 1.0),
    neurons: type[TTFSLayer] = TTFSLayer,
) -> TTFSNet:
    """Phase 2: the spiking network of a preprocessed graph. largest: X_n of each hidden layer; B_n = (1 + zeta) X_n.

    neurons: of the hidden layers. t_min of a layer is the largest t_max of its sources; the spikes of the others are delayed
    until their intervals end there too, and the drive alpha begins with the longest of these intervals.

    Raises InputError for a zeta of -1 or less, or a layer without X_n.
    """
    _check_zeta(zeta)
    weighted = [node for node in graph.nodes.values() if node.kind in ("conv", "linear")]
    device = weighted[0].weighted.weight.device
    start, end = (torch.tensor(time, dtype=torch.float64, device=device) for time in (0.0, 1.0))
    intervals = {"input": (start, end)}  # t_min and t_max of each ReLU, and of the input
    layers: dict[str, TTFSLayer | TTFSOutput] = {}
    previous = "input"
    for node in weighted:
        branches = _branches(graph, node)
        sources = [source for source, _ in branches]
        t_min_prev, t_min = _common_interval([intervals[source] for source in sources])
        path = branches[0][1] if sources == [previous] else _joined(graph, branches, layers)
        if node is weighted[-1]:
            last = graph.nodes[graph.output]
            if isinstance(last.module, CappedReLU):
                raise InputError(
                    f"the output '{last.name}' is capped (ReLU6, clamp), and the potentials that classes are read from are "
                    "not; leave it out of the network"
                )
            rectified = last.kind == "relu"
            layers[node.name] = TTFSOutput.from_relu_layer(path, node.weighted, t_min_prev, t_min, rectified)
            break
        if node.name not in largest:
            raise InputError(f"layer '{node.name}' has no X_n; measure it on the training images by `measure_ranges`")
        relu = graph.readers(node.name)[0]
        length = relu.module.cap if isinstance(relu.module, CappedReLU) else (1 + zeta) * largest[node.name]
        layer = neurons.from_relu_layer(path, node.weighted, t_min_prev, t_min, length)
        layers[node.name], intervals[relu.name], previous = layer, (t_min, layer.t_max), relu.name
    p, q = input_range
    return TTFSNet(layers, (p, q), zeta).requires_grad_(False)


def _branches(graph: Graph, node: Node) -> list[tuple[str, list[nn.Module]]]:
    """Of each branch that a weighted layer reads: its source, a ReLU or the input, and the modules on the way."""
    (end,) = node.inputs
    ends = graph.nodes[end].inputs if end != "input" and graph.nodes[end].kind == "cat" else (end,)
    found = []
    for source in ends:
        path: list[nn.Module] = []
        while source != "input" and graph.nodes[source].kind != "relu":
            path.insert(0, graph.nodes[source].module)
            (source,) = graph.nodes[source].inputs
        found.append((source, path))
    return found


def _joined(
    graph: Graph, branches: list[tuple[str, list[nn.Module]]], layers: dict[str, TTFSLayer | TTFSOutput]
) -> Branches:
    """The branches, whose sources are named by the layers made so far."""
    layer_of = {"input": "input"} | {graph.readers(layer)[0].name: layer for layer in layers}
    return Branches([(layer_of[source], path) for source, path in branches])


def _common_interval(intervals: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """t_min_prev and t_min of a layer with sources in these intervals: the last end, and the longest length before it."""
    _, t_min = max(intervals, key=lambda interval: float(interval[1]))
    starts = [start if end is t_min else t_min - (end - start) for start, end in intervals]
    return min(starts, key=float), t_min


def _shape(few: Tensor) -> torch.Size:
    if shape := images_shape(few):
        return shape
    raise InputError(EMPTY)


def _check_zeta(zeta: float) -> None:
    if not zeta > -1:
        raise InputError(
            f"convert.zeta={zeta}: above -1 is needed, or a layer has no time to fire; as in convert.zeta=0.5"
        )
