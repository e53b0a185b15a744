"""The exact mapping of a ReLU network to spike times (Stanojevic et al. 2023): both phases, one after the other."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from respike.convert.exact.chain import read_chain
from respike.convert.exact.fold_forward import fold_forward, unit_input
from respike.convert.exact.ranges import Ranges, measure_ranges
from respike.convert.exact.ttfs_net import TTFSLayer, TTFSNet, TTFSOutput
from respike.convert.exact.weight_bounds import bound_weight_sums
from respike.convert.graph.nodes import Graph
from respike.convert.graph.trace import read_graph
from respike.errors import InputError
from respike.system.distributed import all_gather

Images = Tensor | Iterable[Tensor]


def preprocess(
    net: nn.Module,
    input_shape: Sequence[int],
    input_range: Sequence[float] = (0.0, 1.0),
    weight_bounds: Sequence[float] = (-10.0, 0.99),
    dtype: torch.dtype = torch.float64,
) -> Graph:
    """Phase 1: the same function of images scaled to [0, 1], as a chain without batch norms whose weight sums are bounded.

    input_shape: (C, H, W) of an image; input_range: [p, q], in which the network's own images lie. Raises InputError for a
    network that is no such chain.
    """
    chain = read_chain(read_graph(copy.deepcopy(net).to(dtype)), input_shape)
    chain = fold_forward(unit_input(chain, *input_range, input_shape), input_shape)
    return bound_weight_sums(chain, input_shape, *weight_bounds)


def map_chain(
    chain: Graph, largest: dict[str, float], zeta: float, input_range: Sequence[float] = (0.0, 1.0)
) -> TTFSNet:
    """Phase 2: the spiking network of a preprocessed chain. largest: X_n of each hidden layer; B_n = (1 + zeta) X_n.

    Raises InputError for a zeta of -1 or less, or a layer without X_n.
    """
    _check_zeta(zeta)
    layers, path = {}, []
    device = next(node.module.weight.device for node in chain.nodes.values() if node.kind in ("conv", "linear"))
    t_min_prev, t_min = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    weighted = [node for node in chain.nodes.values() if node.kind in ("conv", "linear")]
    for node in chain.nodes.values():
        if node.kind in ("maxpool", "flatten"):
            path.append(node.module)
        elif node is weighted[-1]:
            rectified = chain.nodes[chain.output].kind == "relu"
            layers[node.name] = TTFSOutput(path, node.module, t_min_prev, t_min, rectified)
        elif node.kind in ("conv", "linear"):
            if node.name not in largest:
                raise InputError(
                    f"layer '{node.name}' has no X_n; measure it on the training images by `measure_ranges`"
                )
            layers[node.name] = TTFSLayer(path, node.module, t_min_prev, t_min, (1 + zeta) * largest[node.name])
            path, t_min_prev, t_min = [], t_min, layers[node.name].t_max
    return TTFSNet(layers, tuple(input_range), zeta).requires_grad_(False)


def exact_map(
    net: nn.Module,
    images: Images,
    *,
    zeta: float | str = 0.5,
    input_range: Sequence[float] = (0.0, 1.0),
    weight_bounds: Sequence[float] = (-10.0, 0.99),
) -> TTFSNet:
    """The spiking network that fires as the ReLU network computes; float64, and `net` is left as it is.

    images: the training set, (B, C, H, W) within input_range, uint8 pixels, or an iterable of such tensors; it gives X_n.
    zeta: margin of each layer's interval, above -1, or "auto": the smallest at which the bound certifies every neuron on every
    training image. The rest as in `preprocess`. The ranges found are kept as `ranges`.
    """
    if isinstance(zeta, str) and zeta != "auto":
        raise InputError(f"convert.zeta={zeta}: a number above -1, or convert.zeta=auto")
    if zeta != "auto":
        _check_zeta(zeta)
    shape, images = _peeked(images)
    chain = preprocess(net, shape, input_range, weight_bounds)
    ranges = measure_ranges(chain, images, tuple(input_range), ceilings=zeta == "auto")
    snn = map_chain(chain, ranges.largest, ranges.safe_zeta() if zeta == "auto" else float(zeta), input_range)
    snn.ranges = ranges
    return snn


def _peeked(images: Images) -> tuple[tuple[int, ...], Images]:
    """The shape (C, H, W) of the images, and all of them. Of several ranks one may have none."""
    parts = iter([images] if isinstance(images, Tensor) else images)
    first = next(parts, None)
    shapes = [shape for shape in all_gather(None if first is None else tuple(first.shape[1:])) if shape]
    if not shapes:
        raise InputError("the calibration set is empty; give at least one image")
    return shapes[0], () if first is None else _chained(first, parts)


def _chained(first: Tensor, others: Iterable[Tensor]) -> Iterable[Tensor]:
    yield first
    yield from others


__all__ = ["Ranges", "exact_map", "map_chain", "preprocess"]


def _check_zeta(zeta: float) -> None:
    if not zeta > -1:
        raise InputError(
            f"convert.zeta={zeta}: above -1 is needed, or a layer has no time to fire; as in convert.zeta=0.5"
        )
