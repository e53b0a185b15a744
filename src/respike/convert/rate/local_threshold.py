"""Local threshold balancing: thresholds that descend their own clipping error (Bu, Li and Yu, CVPR 2025, arXiv 2409.03368).

Every threshold starts at 0. For each batch of calibration images, in one forward pass through all layers, for each channel c

    theta_c += 2 mean( max(x_c - theta_c, 0) )        over images and places,

and the layer hands on clip(x, 0, theta), so that deeper layers are measured on clipped inputs. The step is minus the
derivative of the squared clipping error mean(max(x_c - theta_c, 0)^2) at rate 1. Thresholds only grow, so the number of batches
decides how far they get: it is a setting of the method. No labels, no gradients through the network, no change of a weight.
"""

import itertools
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from respike.convert.calibration import EMPTY, Images, image_batches
from respike.convert.graph.nodes import Graph
from respike.convert.rate.normalize import measured_norm
from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError
from respike.system.distributed import all_gather, world_size

LEAST = 0.01
log = logging.getLogger(__name__)


def local_threshold_norm(
    net: nn.Module,
    images: Images,
    *,
    batches: int = 100,
    batch_size: int = 10,
    scale: str = "channel",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "current",
) -> RateSNN:
    """One spike per step represents the threshold that local balancing finds on the first batches of the images.

    batches: at most so many updates, of batch_size images each. The authors' demo makes 12 of 100: thresholds that have grown
    so little leave a ResNet-20 at chance; 100 updates of 10, from fewer images, do not. Other arguments and errors as in
    `data_norm`.
    """
    measure = local_thresholds(batches, batch_size)
    return measured_norm(net, images, measure, scale, output_layer, fold_dropout, spiking_pools, max_pool, readout)


def step_up(theta: Tensor, x: Tensor) -> Tensor:
    """The thresholds (R,) after one update with the values (R, n) of each."""
    return theta + 2 * (x - theta[:, None]).clamp_(min=0).mean(1)


def local_thresholds(batches: int, batch_size: int) -> Callable[..., dict[str, Tensor]]:
    """A function like `max_scale` that returns the thresholds after one update for each batch of the first images.

    Raises InputError for less than one batch or image.
    """
    for name, value, usual in (("batches", batches, 100), ("batch_size", batch_size, 10)):
        if value < 1:
            raise InputError(f"convert.{name}={value}: a whole number from 1 up, as in convert.{name}={usual}")

    def scale(
        graph: Graph, node_of_layer: dict[str, str], images: Images, by_channel: bool = False
    ) -> dict[str, Tensor]:
        thetas: dict[str, Tensor] = {}
        nodes = set(node_of_layer.values())

        def clip(node: str, value: Tensor) -> Tensor:
            if node not in nodes:
                return value
            rows = value.transpose(0, 1).flatten(1) if by_channel else value.reshape(1, -1)
            theta = step_up(thetas.get(node, rows.new_zeros(len(rows))), rows)
            thetas[node] = theta
            shape = (1, -1, *[1] * (value.ndim - 2)) if by_channel else (1,)
            return torch.minimum(value.clamp(min=0), theta.view(shape))

        seen = 0
        with torch.inference_mode():
            for batch in itertools.islice(_batches_of(images, batch_size), batches):
                seen += 1
                for _ in graph.stream(batch.to(graph.device, graph.dtype, copy=True), change=clip):
                    pass
        if not seen:
            raise InputError(EMPTY)
        if seen < batches:
            log.info("convert.batches=%d: the calibration images make %d of %d", batches, seen, batch_size)
        found = {layer: _at_least(thetas[node].double().cpu()) for layer, node in node_of_layer.items()}
        return found if by_channel else {layer: theta[0] for layer, theta in found.items()}

    return scale


def _at_least(theta: Tensor) -> Tensor:
    """Thresholds (R,) of a layer of at least LEAST of its largest.

    A channel that is all but silent would otherwise have weights so large that others lose their digits on the layer's grid.
    """
    return theta.clamp(min=LEAST * float(theta.max()))


def _batches_of(images: Images, size: int) -> Iterator[Tensor]:
    """Batches of `size` images, the last one with the rest. In a distributed run those of all processes, in each of them."""
    parts = image_batches(images)
    if world_size() > 1:
        parts = itertools.chain.from_iterable(all_gather(list(parts)))
    kept: list[Tensor] = []
    for part in parts:
        for piece in part.split(size):
            kept.append(piece)
            while sum(map(len, kept)) >= size:
                whole = torch.cat(kept)
                yield whole[:size]
                kept = [whole[size:]] if len(whole) > size else []
    if sum(map(len, kept)):
        yield torch.cat(kept)
