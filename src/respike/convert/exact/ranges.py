"""What the layers of a chain reach over a training set: X_n, how many activations are not 0, and the smallest safe zeta."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from respike.convert.exact.ttfs_net import bias_of, synapses_of
from respike.convert.graph.nodes import Graph, Node
from respike.convert.rate.scales import image_batches
from respike.errors import InputError, SilentLayer
from respike.system.distributed import all_gather

BUDGET = 1 << 27  # bytes of the widest layer's unfolded input in one batch


@dataclass
class Ranges:
    """Per hidden layer, named by its weighted operation: largest activation X_n, share of activations above 0, and the
    largest ceiling sum_j W+_ij x_j + b_i, which no potential's course exceeds (in ReLU values)."""

    largest: dict[str, float] = field(default_factory=dict)
    active: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)

    def safe_zeta(self) -> float:
        """The smallest zeta at which the bound certifies every neuron on every image seen."""
        return max((self.ceilings[name] / self.largest[name] for name in self.largest), default=1.0) * (1 + 1e-9) - 1


def unit_leads(images: Tensor, input_range: tuple[float, float], dtype: torch.dtype) -> Tensor:
    """(x - p) / (q - p) for images in [p, q]. Raises InputError for a pixel outside."""
    p, q = input_range
    low, high = float(images.min()), float(images.max())
    if not p <= low <= high <= q:
        raise InputError(
            f"images between {low:.4g} and {high:.4g} leave the input range [{p:g}, {q:g}] of the mapping; "
            f"give convert.input_range=[{min(low, p):g},{max(high, q):g}], or images within it"
        )
    return (images.to(dtype) - p) / (q - p)


def measure_ranges(
    graph: Graph,
    images: Tensor | Iterable[Tensor],
    input_range: tuple[float, float] = (0.0, 1.0),
    ceilings: bool = False,
) -> Ranges:
    """The ranges of a chain whose input is in [0, 1], for images in input_range, batch by batch in bounded memory.

    Of several ranks each gives its own images, and the ranges are over those of all. The image with a layer's largest
    activation is found in float32, its value taken in the chain's own precision. ceilings: also those, for one more product
    per layer, all in that precision. Raises InputError where there is no image, `SilentLayer` for a layer that none of them
    activates.
    """
    hidden = [node for node in graph.nodes.values() if node.kind == "relu" and node.name != graph.output]
    layers = {node.inputs[0]: node.name for node in hidden}
    scan = graph if ceilings else _single(graph)
    ranges, counts = Ranges({name: 0.0 for name in layers}), {name: [0, 0] for name in layers}
    tops: dict[str, Tensor] = {}
    for batch in _batches(scan, images):
        before = leads = unit_leads(batch, input_range, scan.dtype)
        for name, value in scan.stream(leads):
            if ceilings and name in layers:
                top = float(_ceiling(graph.nodes[name].module, before).max())
                ranges.ceilings[name] = max(ranges.ceilings.get(name, top), top)
            before = value
            if name in layers.values():
                layer = graph.nodes[name].inputs[0]
                largest, image = value.flatten(1).amax(1).max(0)
                if largest > ranges.largest[layer]:
                    ranges.largest[layer], tops[layer] = float(largest), batch[image : image + 1]
                counts[layer][0] += int((value > 0).sum())
                counts[layer][1] += value.numel()
    if scan is not graph:
        ranges.largest |= {
            layer: _largest(graph, layers[layer], unit_leads(image, input_range, graph.dtype))
            for layer, image in tops.items()
        }
    ranges, counts = _of_all_ranks(ranges, counts)
    return _checked(ranges, counts)


def _single(graph: Graph) -> Graph:
    """The chain in float32."""
    nodes = (Node(n.name, n.kind, n.inputs, copy.deepcopy(n.module).float()) for n in graph.nodes.values())
    return Graph({node.name: node for node in nodes}, graph.output)


def _largest(graph: Graph, relu: str, image: Tensor) -> float:
    """The largest value of a ReLU for one image (1, C, H, W)."""
    with torch.inference_mode():
        return next(float(value.max()) for name, value in graph.stream(image) if name == relu)


def _checked(ranges: Ranges, counts: dict[str, list[int]]) -> Ranges:
    if counts and not any(total for _, total in counts.values()):
        raise InputError("the calibration set is empty; give at least one image")
    for name, largest in ranges.largest.items():
        if not largest > 0:
            raise SilentLayer(
                f"layer '{name}' is silent on the calibration images: train the network, or give other images"
            )
    ranges.active = {name: active / total for name, (active, total) in counts.items()}
    return ranges


def _of_all_ranks(ranges: Ranges, counts: dict[str, list[int]]) -> tuple[Ranges, dict[str, list[int]]]:
    parts = all_gather((ranges.largest, ranges.ceilings, counts))
    whole = Ranges({name: max(part[0][name] for part in parts) for name in ranges.largest})
    for _, tops, _ in parts:
        whole.ceilings |= {name: max(top, whole.ceilings.get(name, top)) for name, top in tops.items()}
    return whole, {
        name: [sum(pair) for pair in zip(*(part[2][name] for part in parts), strict=True)] for name in counts
    }


def _batches(graph: Graph, images: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    """Images as given, floating, on the graph's device, so many at a time that memory stays bounded."""
    size = None
    with torch.inference_mode():
        for part in [images] if isinstance(images, Tensor) else images:
            size = size or max(1, BUDGET // bytes_per_image(graph, part.shape[1:], graph.dtype.itemsize))
            for batch in image_batches(part, size):
                yield batch.to(graph.device)


def bytes_per_image(graph: Graph, input_shape: torch.Size, itemsize: int) -> int:
    """Of the widest layer's input, unfolded as a convolution may unfold it, and its output, for one image."""
    shapes, widest = graph.shapes(input_shape), 1
    for name, node in graph.nodes.items():
        fan_in = node.module.weight[0].numel() if node.kind == "conv" else 1
        places = shapes[name][1:].numel() if node.kind == "conv" else 0
        widest = max(widest, fan_in * places + shapes[name].numel() + shapes[node.inputs[0]].numel())
    return widest * itemsize


def _ceiling(module: nn.Module, x: Tensor) -> Tensor:
    """sum_j W+_ij x_j + b_i."""
    return synapses_of(module, module.weight.detach().clamp(min=0))(x) + bias_of(module)
