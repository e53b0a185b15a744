"""Measures the ranges of a network's layers over calibration images: X_n, the share of active neurons, and upper bounds."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from respike.convert.calibration import EMPTY, Images, image_batches, tensors
from respike.convert.exact.ttfs_net import Ranges, bias_of, synapses_of, unit_leads
from respike.convert.graph.nodes import Graph, Node, Weighted
from respike.errors import InputError, SilentLayer
from respike.system.distributed import all_gather

BUDGET = 1 << 27  # bytes of the widest layer's unfolded input in one batch


def measure_ranges(
    graph: Graph,
    images: Images,
    input_range: tuple[float, float] = (0.0, 1.0),
    upper_bounds: bool = False,
) -> Ranges:
    """The ranges of a preprocessed graph over images in input_range, measured batch by batch in bounded memory.

    In a distributed run each process measures its own images, and every process gets the ranges over all of them.
    upper_bounds: measure these too, in the precision of the graph, at the cost of one more product per layer. Otherwise the
    image with a layer's largest activation is found in float32, and its value is then computed in the precision of the graph.
    Raises InputError if there is no image, SilentLayer for a layer that no image activates.
    """
    hidden = [node for node in graph.nodes.values() if node.kind == "relu" and node.name != graph.output]
    relu_of_layer = {node.inputs[0]: node.name for node in hidden}
    layer_of_relu = {node.name: node.inputs[0] for node in hidden}
    scan = graph if upper_bounds else _in_float32(graph)
    ranges = Ranges({name: 0.0 for name in relu_of_layer})
    counts = {name: [0, 0] for name in relu_of_layer}  # activations above 0, and all
    largest_images: dict[str, Tensor] = {}
    bounded = {graph.nodes[layer].inputs[0] for layer in relu_of_layer if upper_bounds}
    for batch in _batches(scan, images):
        for name, value in scan.stream(unit_leads(batch, input_range, scan.dtype)):
            for node in graph.readers(name) if name in bounded else []:
                if node.name in relu_of_layer:
                    bound = float(_upper_bound(node.weighted, value).max())
                    ranges.upper_bounds[node.name] = max(ranges.upper_bounds.get(node.name, bound), bound)
            if name in layer_of_relu:
                layer = layer_of_relu[name]
                largest, image = value.flatten(1).amax(1).max(0)
                if largest > ranges.largest[layer]:
                    ranges.largest[layer], largest_images[layer] = float(largest), batch[image : image + 1]
                counts[layer][0] += int((value > 0).sum())
                counts[layer][1] += value.numel()
    if scan is not graph:
        for layer, image in largest_images.items():
            leads = unit_leads(image, input_range, graph.dtype)
            ranges.largest[layer] = _largest_activation(graph, relu_of_layer[layer], leads)
    return _over_all_processes(ranges, counts)


def _in_float32(graph: Graph) -> Graph:
    """A copy of the graph in float32."""
    nodes = {
        name: Node(name, node.kind, node.inputs, copy.deepcopy(node.module).float())
        for name, node in graph.nodes.items()
    }
    return Graph(nodes, graph.output)


def _largest_activation(graph: Graph, relu: str, leads: Tensor) -> float:
    """The largest value of a ReLU for one image, given as leads (1, C, H, W)."""
    with torch.inference_mode():
        return next(float(value.max()) for name, value in graph.stream(leads) if name == relu)


def _over_all_processes(ranges: Ranges, counts: dict[str, list[int]]) -> Ranges:
    """The ranges over the images of all processes, with the active shares. counts: activations above 0, and all."""
    parts = all_gather((ranges.largest, ranges.upper_bounds, counts))
    whole = Ranges({name: max(part[0][name] for part in parts) for name in ranges.largest})
    for _, bounds, _ in parts:
        whole.upper_bounds |= {name: max(bound, whole.upper_bounds.get(name, bound)) for name, bound in bounds.items()}
    totals = {name: sum(part[2][name][1] for part in parts) for name in counts}
    if counts and not any(totals.values()):
        raise InputError(EMPTY)
    for name, largest in whole.largest.items():
        if not largest > 0:
            raise SilentLayer(
                f"layer '{name}' is silent on the calibration images: train the network, or give other images"
            )
    whole.active = {name: sum(part[2][name][0] for part in parts) / total for name, total in totals.items()}
    return whole


def _batches(graph: Graph, images: Images) -> Iterator[Tensor]:
    """Floating-point images on the device of the graph, in batches whose size keeps memory bounded."""
    size = None
    with torch.inference_mode():
        for part in tensors(images):
            size = size or max(1, BUDGET // bytes_per_image(graph, part.shape[1:], graph.dtype.itemsize))
            for batch in image_batches(part, size):
                yield batch.to(graph.device)


def bytes_per_image(graph: Graph, input_shape: torch.Size, itemsize: int) -> int:
    """Bytes for one image in the widest layer: its input, unfolded as a convolution may unfold it, and its output."""
    shapes, widest = graph.shapes(input_shape), 1
    for name, node in graph.nodes.items():
        unfolded = node.module.weight[0].numel() * shapes[name][1:].numel() if node.kind == "conv" else 0
        widest = max(widest, unfolded + shapes[name].numel() + shapes[node.inputs[0]].numel())
    return widest * itemsize


def _upper_bound(module: Weighted, x: Tensor) -> Tensor:
    """sum_j W+_ij x_j + b_i."""
    return synapses_of(module, module.weight.detach().clamp(min=0))(x) + bias_of(module)
