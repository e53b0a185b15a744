"""Statistics of a ReLU network's activations over calibration images, measured batch by batch in bounded memory.

In a distributed run each process measures its own images, and every process gets the statistics over all of them.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from respike.convert.calibration import EMPTY, Images, image_batches
from respike.convert.graph.nodes import Graph
from respike.errors import InputError
from respike.system.distributed import all_gather

BINS = 1 << 16  # a percentile is exact to 1/65536 of the largest activation
COUNTED = 1 << 24  # values at a time: torch.histc counts in the dtype of the values, and float32 cannot count further


def max_scale(graph: Graph, node_of_layer: dict[str, str], images: Images) -> dict[str, float]:
    """The largest activation of each layer over the images. node_of_layer: the node whose value a layer represents."""
    largest = dict.fromkeys(node_of_layer, 0.0)
    for values in _activations(graph, node_of_layer, images):
        for layer, value in values.items():
            largest[layer] = max(largest[layer], float(value.max()))
    parts = all_gather(largest)
    return {layer: max(part[layer] for part in parts) for layer in node_of_layer}


def percentile_scale(q: float, zeros: bool) -> Callable[[Graph, dict[str, str], Images], dict[str, float]]:
    """A function like `max_scale` that returns the q-quantile of each layer's activations, q in (0, 1].

    zeros: whether silent neurons count (as in SpikingJelly and sinabs) or not (as in SNN toolbox). It reads the images
    twice: for the maximum, then for a histogram of BINS equal bins up to it. The result is the upper edge of the bin in which
    the cumulative count reaches q. Raises InputError for a q outside (0, 1].
    """
    if not 0 < q <= 1:
        raise InputError(f"convert.q={q}: a quantile in (0, 1] is needed, as in convert.q=0.999")

    def scale(graph: Graph, node_of_layer: dict[str, str], images: Images) -> dict[str, float]:
        images = images if isinstance(images, Tensor | list) else list(images)
        largest = max_scale(graph, node_of_layer, images)
        counts = {layer: torch.zeros(BINS, dtype=torch.float64) for layer in node_of_layer}
        for values in _activations(graph, node_of_layer, images):
            for layer, value in values.items():
                chosen = value if zeros else value[value > 0]
                if largest[layer] > 0:
                    for part in chosen.flatten().split(COUNTED):
                        precise = part.clamp(min=0).to(torch.promote_types(part.dtype, torch.float32))
                        counts[layer] += torch.histc(precise, BINS, 0, largest[layer]).cpu()
        parts = all_gather(counts)
        total = {layer: torch.stack([part[layer] for part in parts]).sum(0) for layer in node_of_layer}
        return {layer: _quantile(total[layer], q) * largest[layer] for layer in node_of_layer}

    return scale


def _activations(graph: Graph, node_of_layer: dict[str, str], images: Images) -> Iterator[dict[str, Tensor]]:
    """The activations of each layer, batch by batch."""
    seen = False
    with torch.inference_mode():
        for batch in image_batches(images):
            seen = True
            values = graph.run(batch.to(graph.device, graph.dtype).clone())  # a network may begin with a ReLU in place
            yield {layer: values[node] for layer, node in node_of_layer.items()}
    if not any(all_gather(seen)):
        raise InputError(EMPTY)


def _quantile(counts: Tensor, q: float) -> float:
    """Upper edge, as a share of the range, of the first bin at which the cumulative count reaches q; 0 for the first bin."""
    cumulative = counts.cumsum(0)
    reached = int(torch.searchsorted(cumulative, q * cumulative[-1]))
    return (reached + 1) / len(counts) if reached else 0.0
