"""Statistics of a ReLU network's activations over a calibration set, gathered batch by batch in bounded memory.

Of several ranks (system/distributed.py) each gives its own images, and the statistics are over those of all, the same in each.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from respike.convert.graph.nodes import Graph
from respike.errors import InputError
from respike.system.distributed import all_gather

BINS = 1 << 16  # a percentile is right to 1/65536 of the largest activation


def image_batches(images: Tensor | Iterable[Tensor], size: int = 500) -> Iterator[Tensor]:
    """Float batches (B, C, H, W) in [0, 1] from one tensor (float, or uint8 pixels) or from an iterable of tensors."""
    for part in [images] if isinstance(images, Tensor) else images:
        for batch in part.split(size) if len(part) else ():
            yield batch.float() / 255 if batch.dtype == torch.uint8 else batch


def _values(graph: Graph, taps: dict[str, str], images: Tensor | Iterable[Tensor]) -> Iterator[dict[str, Tensor]]:
    seen = False
    with torch.inference_mode():
        for batch in image_batches(images):
            seen = True
            values = graph.run(batch.to(graph.device))
            yield {layer: values[node] for layer, node in taps.items()}
    if not any(all_gather(seen)):
        raise InputError("the calibration set is empty; give at least one image")


def max_scale(graph: Graph, taps: dict[str, str], images: Tensor | Iterable[Tensor]) -> dict[str, float]:
    """Largest activation of each layer over the images; `taps` names the node of each layer."""
    largest = dict.fromkeys(taps, 0.0)
    for values in _values(graph, taps, images):
        for layer, value in values.items():
            largest[layer] = max(largest[layer], float(value.max()))
    parts = all_gather(largest)
    return {layer: max(part[layer] for part in parts) for layer in taps}


def percentile_scale(q: float, zeros: bool) -> Callable[..., dict[str, float]]:
    """A function like `max_scale` that returns the q-quantile of the activations, q in (0, 1].

    zeros: silent neurons count (SpikingJelly, sinabs) or do not (SNN toolbox). Two passes: the maximum, then a
    histogram of BINS equal bins up to it; the value is the upper edge of the bin that reaches q.
    """
    if not 0 < q <= 1:
        raise InputError(f"convert.q={q}: a quantile in (0, 1] is needed, as in convert.q=0.999")

    def scale(graph: Graph, taps: dict[str, str], images: Tensor | Iterable[Tensor]) -> dict[str, float]:
        images = images if isinstance(images, Tensor | list) else list(images)
        largest = max_scale(graph, taps, images)
        counts = {layer: torch.zeros(BINS, dtype=torch.float64) for layer in taps}
        for values in _values(graph, taps, images):
            for layer, value in values.items():
                chosen = value if zeros else value[value > 0]
                if largest[layer] > 0:
                    counts[layer] += torch.histc(chosen.clamp(min=0), BINS, 0, largest[layer]).cpu()
        parts = all_gather(counts)
        return {layer: _quantile(sum(part[layer] for part in parts), q) * largest[layer] for layer in taps}

    return scale


def _quantile(counts: Tensor, q: float) -> float:
    """Upper edge, as a share of the range, of the first bin at which the cumulative count reaches q; 0 for the bin of 0."""
    cumulative = counts.cumsum(0)
    reached = int(torch.searchsorted(cumulative, q * cumulative[-1]))
    return (reached + 1) / len(counts) if reached else 0.0
