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
CHANNEL_BINS = 1 << 11
BATCH = 1 << 20  # numbers of the images of a batch, which bounds the activations in memory
COUNTED = 1 << 24  # values at a time: torch.histc counts in the dtype of the values, and float32 cannot count further


def max_scale(
    graph: Graph, node_of_layer: dict[str, str], images: Images, by_channel: bool = False
) -> dict[str, Tensor]:
    """The largest activation of each layer over the images, at least 0, float64: () or, by channel, (C,).

    node_of_layer: the node whose value a layer represents.
    """
    largest = {layer: torch.zeros((), dtype=torch.float64) for layer in node_of_layer}
    for layer, value in activations(graph, node_of_layer, images):
        seen = value.transpose(0, 1).flatten(1).amax(1) if by_channel else value.max()
        largest[layer] = torch.maximum(largest[layer], seen.double().cpu())
    parts = all_gather(largest)
    return {layer: torch.stack([part[layer] for part in parts]).amax(0) for layer in node_of_layer}


def percentile_scale(q: float, zeros: bool) -> Callable[..., dict[str, Tensor]]:
    """A function like `max_scale` that returns the q-quantile of each layer's activations, q in (0, 1].

    zeros: whether silent neurons count (as in SpikingJelly and sinabs) or not (as in SNN toolbox). It reads the images
    twice: for the maximum, then for a histogram of equal bins up to it, BINS for a layer and CHANNEL_BINS for a channel. The
    result is the upper edge of the bin in which the cumulative count reaches q. Raises InputError for a q outside (0, 1].
    """
    if not 0 < q <= 1:
        raise InputError(f"convert.q={q}: a quantile in (0, 1] is needed, as in convert.q=0.999")

    def scale(
        graph: Graph, node_of_layer: dict[str, str], images: Images, by_channel: bool = False
    ) -> dict[str, Tensor]:
        def counts(rows: Tensor, largest: Tensor) -> Tensor:
            return _histogram(rows, largest, zeros, CHANNEL_BINS if by_channel else BINS)

        def quantiles(counts: Tensor) -> Tensor:
            return torch.tensor([_quantile(row, q, zeros) for row in counts], dtype=torch.float64)

        return share_of_maximum(graph, node_of_layer, images, by_channel, counts, quantiles)

    return scale


def share_of_maximum(
    graph: Graph,
    node_of_layer: dict[str, str],
    images: Images,
    by_channel: bool,
    measure: Callable[[Tensor, Tensor], Tensor],
    choose: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Scales as in `max_scale`, the largest activations times a share, in two passes over the images.

    measure: from the activations (R, n) of one row, or one per channel, in some of the images, and the largest of each row
    (R,), what is summed over all images; choose: from the sums, the share of each row (R,).
    """
    images = images if isinstance(images, Tensor | list) else list(images)
    largest = max_scale(graph, node_of_layer, images, by_channel)
    sums: dict[str, Tensor] = {}
    for layer, value in activations(graph, node_of_layer, images):
        rows = value.transpose(0, 1).flatten(1) if by_channel else value.reshape(1, -1)
        found = measure(rows, largest[layer].reshape(-1))
        sums[layer] = sums[layer] + found if layer in sums else found
    parts = [part for part in all_gather(sums) if part]  # a process of a distributed run may have no images
    shares = {layer: choose(torch.stack([part[layer] for part in parts]).sum(0)) for layer in node_of_layer}
    return {layer: shares[layer].view(top.shape) * top for layer, top in largest.items()}


def _histogram(rows: Tensor, largest: Tensor, zeros: bool, bins: int) -> Tensor:
    """Counts (R, bins) of the values of each row (R, n), negative ones as 0, in equal bins from 0 to its largest, (R,)."""
    counts = torch.zeros(len(rows), bins, dtype=torch.float64)
    for row, top, count in zip(rows, largest, counts, strict=True):
        chosen = row if zeros else row[row > 0]
        for part in chosen.split(COUNTED) if top > 0 else ():
            precise = part.clamp(min=0).to(torch.promote_types(part.dtype, torch.float32))
            count += torch.histc(precise, bins, 0, float(top)).cpu()
    return counts


def activations(graph: Graph, node_of_layer: dict[str, str], images: Images) -> Iterator[tuple[str, Tensor]]:
    """(layer, its activations (B, ...N)) for every layer, batch by batch of at most `BATCH` numbers of input."""
    layers: dict[str, list[str]] = {}
    for layer, node in node_of_layer.items():
        layers.setdefault(node, []).append(layer)
    seen = False
    with torch.inference_mode():
        for whole in image_batches(images):
            for batch in whole.split(max(1, BATCH // max(1, whole[0].numel()))):
                seen = True
                # a copy: a network may begin with a ReLU in place
                for node, value in graph.stream(batch.to(graph.device, graph.dtype, copy=True)):
                    for layer in layers.get(node, ()):
                        yield layer, value
    if not any(all_gather(seen)):
        raise InputError(EMPTY)


def _quantile(counts: Tensor, q: float, zeros: bool) -> float:
    """Upper edge, as a share of the range, of the first bin at which the cumulative count reaches q.

    0 without counts, and, where zeros are counted, for the first bin, in which they are.
    """
    cumulative = counts.cumsum(0)
    if not cumulative[-1]:
        return 0.0
    reached = int(torch.searchsorted(cumulative, q * cumulative[-1]))
    return 0.0 if zeros and not reached else (reached + 1) / len(counts)
