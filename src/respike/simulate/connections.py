"""Shapes, fan-outs and multiply-accumulates of any spiking network, from the modules on its synapses.

A path is the list of modules from the spikes of one layer to the currents of another; an empty path is an identity shortcut.
Shapes are without the batch.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.convert.graph.modules import linear_of, pair
from respike.convert.graph.nodes import Embed, PlaceMap, Scale, SignedMaxPool2d
from respike.errors import InputError

Path = Sequence[nn.Module]
Paths = Mapping[str, Sequence[tuple[str, Path]]]  # by layer, first to last: the (source, path) pairs that drive it
Pools = Mapping[str, nn.Module]
NO_POOLS: Pools = {}


@dataclass(frozen=True)
class LayerConnections:
    """The connections that end on one spiking layer. Per source, in the order of `sources`, three counts:

    fan_outs: connections of each source neuron into the layer, int64 (source shape); macs: multiply-accumulates of the
    weighted operation for one image; weights: numbers that it stores. repeats: whether the ReLU network computes it once with
    that of an earlier source, on their sum.
    """

    name: str
    shape: torch.Size
    sources: tuple[str, ...]
    fan_outs: tuple[Tensor, ...]
    macs: tuple[int, ...]
    weights: tuple[int, ...]
    repeats: tuple[bool, ...]

    @property
    def network_macs(self) -> int:
        """Multiply-accumulates of the ReLU network for one image."""
        return sum(macs for macs, repeats in zip(self.macs, self.repeats, strict=True) if not repeats)


@dataclass(frozen=True)
class Connections:
    """The connections of a network for images of shape `input_shape`, layer by layer, first to last."""

    input_shape: torch.Size
    layers: tuple[LayerConnections, ...]

    @property
    def neurons(self) -> dict[str, int]:
        """Number of neurons of the input and of each layer."""
        return {"input": self.input_shape.numel()} | {layer.name: layer.shape.numel() for layer in self.layers}

    def macs(self, source: str | None = None) -> int:
        """Multiply-accumulates of one pass of the ReLU network per image; or those on the values of one source."""
        if source is None:
            return sum(layer.network_macs for layer in self.layers)
        return sum(
            macs
            for layer in self.layers
            for name, macs in zip(layer.sources, layer.macs, strict=True)
            if name == source
        )


def network_connections(paths: Paths, input_shape: torch.Size, pools: Pools = NO_POOLS) -> Connections:
    """The connections of a network. pools: by layer, a max-pool of the sum of its paths.

    Raises InputError where images of this shape or branches do not fit.
    """
    shapes = layer_shapes(paths, input_shape, pools)
    layers = []
    for name, incoming in paths.items():
        plain = [(source, with_plain_pools(path, shapes[source])) for source, path in incoming]
        layers.append(
            LayerConnections(
                name,
                shapes[name],
                tuple(source for source, _ in plain),
                tuple(_fan_out(path, shapes[source], pools.get(name)) for source, path in plain),
                tuple(multiply_accumulates(path, shapes[source]) for source, path in plain),
                tuple(_stored(path) for _, path in plain),
                tuple(any(getattr(module, "repeats", False) for module in path) for _, path in plain),
            )
        )
    return Connections(shapes["input"], tuple(layers))


def layer_shapes(paths: Paths, input_shape: torch.Size, pools: Pools = NO_POOLS) -> dict[str, torch.Size]:
    """The shape of every layer for images of shape (C, H, W); the input's under "input".

    Raises InputError where images or branches do not fit.
    """
    shapes = {"input": torch.Size(input_shape)}
    for name, incoming in paths.items():
        try:
            pool = [pools[name]] if name in pools else []
            ends = {path_shape([*path, *pool], shapes[source]) for source, path in incoming}
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}' ({reason})"
            ) from error
        if len(ends) > 1:
            raise InputError(
                f"branches of shapes {[tuple(end) for end in ends]} meet in layer '{name}'; all must have one shape"
            )
        shapes[name] = ends.pop()
    return shapes


def path_shape(path: Path, shape: torch.Size) -> torch.Size:
    """The output shape of a path for an input of `shape`."""
    for module in path:
        if isinstance(module, Scale):
            continue
        weights = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
        dtype = next((value.dtype for value in weights.values()), torch.float32)
        images = torch.zeros(1, *shape, dtype=dtype, device="meta")  # on this device nothing is computed but shapes
        shape = torch.func.functional_call(module, weights, images).shape[1:]
    return shape


def with_plain_pools(path: Path, shape: torch.Size) -> list[nn.Module]:
    """The path with plain average pools, or maps of places, in place of adaptive and irregular ones; shape: of its source.

    Paddings "same" and "valid" become numbers, where those of both sides are equal.
    A map of places in front of a larger Linear is multiplied into its weights.
    """
    found: list[nn.Module] = []
    for module in path:
        plain = _plain_pool(module, shape) if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) else module
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
            plain = _with_numbers(module)
        shape = path_shape([module], shape)
        if isinstance(module, nn.Linear) and [type(one) for one in found[-2:]] == [PlaceMap, nn.Flatten]:
            places, flatten = found[-2:]
            assert isinstance(places, PlaceMap)
            if places.rows.shape[1] * places.columns.shape[1] < places.rows.shape[0] * places.columns.shape[0]:
                found[-2:], plain = [flatten], _linear_of_places(module, places)
        found.append(plain)
    return found


def _with_numbers(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the same weights, padded by numbers in place of a word; itself where two sides differ."""
    spans = [
        0 if conv.padding == "valid" else d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
    ]
    if any(span % 2 for span in spans) or conv.padding_mode != "zeros":
        return conv
    made = copy.copy(conv)
    made.padding = (spans[0] // 2, spans[1] // 2)
    return made


def _plain_pool(module: nn.AvgPool2d | nn.AdaptiveAvgPool2d, shape: torch.Size) -> nn.AvgPool2d | PlaceMap:
    """The pool itself or a plain one with the same windows, or, where these differ in size, the map of places that it is."""
    sides = shape[-2:]
    if isinstance(module, nn.AdaptiveAvgPool2d):
        ends = path_shape([module], shape)[-2:]
        if all(side % end == 0 for side, end in zip(sides, ends, strict=True)):
            return nn.AvgPool2d((sides[0] // ends[0], sides[1] // ends[1]))
        axes: list[nn.Module] = [nn.AdaptiveAvgPool2d((end, 1)) for end in ends]
    elif module.divisor_override or not (
        module.ceil_mode or (pair(module.padding) != (0, 0) and not module.count_include_pad)
    ):
        return module
    else:
        settings = zip(*map(pair, (module.kernel_size, module.stride, module.padding)), strict=True)
        axes = [
            nn.AvgPool2d((kernel, 1), (stride, 1), (padding, 0), module.ceil_mode, module.count_include_pad)
            for kernel, stride, padding in settings
        ]
    # along one axis the means of unit vectors are the columns of the map
    return PlaceMap(
        *(
            axis(torch.eye(side, dtype=torch.float64)[None, :, :, None])[0, :, :, 0].T.contiguous()
            for axis, side in zip(axes, sides, strict=True)
        )
    )


def _linear_of_places(linear: nn.Linear, places: PlaceMap) -> nn.Module:
    """The linear layer of the flattened maps in front of a map of places; a few rows of its weights at a time."""
    rows, columns = places.rows.to(linear.weight), places.columns.to(linear.weight)
    whole = [
        torch.einsum("ocyx,yh,xw->ochw", part.unflatten(1, (-1, len(rows), len(columns))), rows, columns).flatten(1)
        for part in linear.weight.detach().split(256)
    ]
    made = linear_of(torch.cat(whole), linear.bias).requires_grad_(False)
    made.repeats = getattr(linear, "repeats", False)  # type: ignore[assignment]
    return made


def sum_pool(pool: nn.AvgPool2d | PlaceMap) -> tuple[nn.AvgPool2d | PlaceMap, int]:
    """The same pool in whole numbers, without its division, and its divisor."""
    if isinstance(pool, PlaceMap):
        factors = [_denominator(axis) for axis in (pool.rows, pool.columns)]
        scaled = ((axis * factor).round() for axis, factor in zip((pool.rows, pool.columns), factors, strict=True))
        return PlaceMap(*scaled), math.prod(factors)
    height, width = pair(pool.kernel_size)
    area = pool.divisor_override or height * width
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, divisor_override=1), area


def _denominator(means: Tensor) -> int:
    """The smallest common multiple of the numbers of places that the rows (H', H) of a map take the mean of."""
    return math.lcm(*(round(1 / float(row[row > 0].min())) for row in means))


def multiply_accumulates(path: Path, shape: torch.Size) -> int:
    """Connections of the weighted operation alone for one image, 0 for a path without weights; shape: the source's."""
    for i, module in enumerate(path):
        if isinstance(module, nn.Linear) and len(shape) == 1:
            return module.weight.numel()
        if isinstance(module, nn.Linear | nn.Conv2d):
            return int(fan_out([path[i]], shape).sum())
        shape = path_shape([module], shape)
    return 0


def _stored(path: Path) -> int:
    return sum(module.weight.numel() for module in path if isinstance(module, nn.Linear | nn.Conv2d))


def _fan_out(path: Path, shape: torch.Size, pool: nn.Module | None) -> Tensor:
    """`fan_out` of a path; of one without weights to a max-pool, the number of windows that each source neuron is in."""
    pool = pool.pool if isinstance(pool, SignedMaxPool2d) else pool
    if not isinstance(pool, nn.MaxPool2d) or any(True for module in path for _ in module.parameters()):
        return fan_out(path, shape)
    ends = path_shape([*path, pool], shape)
    pairs = map(pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    rows, columns = (_windows(*axis) for axis in zip(shape[1:], ends[1:], *pairs, strict=True))
    return (rows[:, None] * columns).expand(shape).clone()


def _windows(size: int, ends: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """In how many of the windows along an axis each of `size` places is, int64; ends: number of windows."""
    places = torch.arange(ends)[:, None] * stride - padding + torch.arange(kernel) * dilation
    return torch.bincount(places[(places >= 0) & (places < size)], minlength=size)


def fan_out(path: Path, shape: torch.Size) -> Tensor:
    """How many connections each source neuron has through the path: int64 (source shape). Weights of 0 count too.

    This is the gradient of the summed output of the same connections, all of weight 1.
    """
    device = next((parameter.device for module in path for parameter in module.parameters()), torch.device("cpu"))
    fully_connected = (
        len(path) > 0
        and isinstance(path[-1], nn.Linear)
        and all(isinstance(module, nn.Flatten) for module in path[:-1])
        and path[-1].in_features == shape.numel()
    )
    if all(isinstance(module, Embed | Scale | nn.Flatten) for module in path):
        return torch.ones((), dtype=torch.int64, device=device).expand(shape)
    if fully_connected:  # known without a gradient
        return torch.full(shape, path[-1].out_features, device=device)
    if len(path) == 1 and isinstance(path[0], nn.Conv2d) and not isinstance(path[0].padding, str):
        conv, ends = path[0], path_shape(path, shape)
        if conv.padding_mode == "zeros":
            settings = zip(shape[1:], ends[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
            rows, columns = (_windows(*axis) for axis in settings)
            return (rows[:, None] * columns * (conv.out_channels // conv.groups)).to(device).expand(shape)
    with torch.inference_mode(False), torch.enable_grad():
        ones = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
        (reached,) = torch.autograd.grad(nn.Sequential(*map(_of_weight_one, path))(ones).sum(), ones)
    return reached[0].round().long().to(device)


def _of_weight_one(module: nn.Module) -> nn.Module:
    """The module's connections, all of weight 1, without bias, float64 on the CPU."""
    if isinstance(module, nn.AvgPool2d):
        return sum_pool(module)[0]
    if isinstance(module, PlaceMap):
        return PlaceMap((module.rows != 0).double(), (module.columns != 0).double())
    if isinstance(module, Scale):
        return nn.Identity()
    unit = copy.deepcopy(module).double().cpu()
    if hasattr(unit, "weight"):
        unit.weight = nn.Parameter(torch.ones(unit.weight.shape, dtype=torch.float64), requires_grad=False)
        unit.register_parameter("bias", None)
    return unit
