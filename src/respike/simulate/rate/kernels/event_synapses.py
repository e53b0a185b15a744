"""Synapses as layers.h reads them: neurons numbered with channels last, padded to LANES; integer weights.

S sources, N neurons of a layer, both padded. Every synapse is one of four kinds, see layers.h.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import Synapse
from respike.simulate.rate.program import ProgramLayer

LANES, BLOCK = 16, 4 * 16  # neurons in a vector, and in a block of rows
ROWS, WINDOWS, CONV, EACH = range(4)
WINDOWS_BYTES = 1 << 15  # the largest table of window sums that fits the L1 cache
SYNAPSE_NUMBERS = (
    "kind", "source", "sources", "unit", "height", "width", "maps", "kernel_height", "kernel_width", "padded",
    "out_height", "out_width",
)  # fmt: skip
SYNAPSE_ARRAYS = ("weights", "fan_out", "place", "map", "first", "target", "tap")


@dataclass
class Wiring:
    """One synapse as layers.h reads it: numbers by SYNAPSE_NUMBERS, arrays by SYNAPSE_ARRAYS; absent ones are 0, NULL."""

    numbers: dict[str, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """The layer whose spikes a synapse reads: index of its list, shape (C, H, W), number of each neuron, padded size S."""

    order: int
    shape: torch.Size
    number_of: np.ndarray
    size: int

    def scattered(self, values: np.ndarray) -> np.ndarray:
        """Values of neurons in (C, H, W) order, at the neurons' numbers; int32 (S,)."""
        placed = np.zeros(self.size, np.int32)
        placed[self.number_of] = values
        return placed


def supported(synapse: Synapse, layer: ProgramLayer, source: torch.Size) -> bool:
    """Whether events.c can run a synapse from a layer of shape `source`: a Linear, Conv2d or Scale, perhaps behind a pool.

    Windows of a pool in front of weights must not overlap; a Linear must read its whole source.
    """
    parts = _parts(synapse)
    if parts is None:
        return False
    pool, operation = parts
    if isinstance(operation, nn.Linear):
        return len(layer.shape) == 1 and (pool is not None or operation.in_features == source.numel())
    if isinstance(operation, Scale):
        if operation.factor.ndim:
            return False
        return source == layer.shape if pool is None else len(layer.shape) == 3
    return True


def _parts(synapse: Synapse) -> tuple[nn.AvgPool2d | None, nn.Linear | nn.Conv2d | Scale] | None:
    modules = [module for module in synapse if not isinstance(module, nn.Flatten)]
    pool = modules[0] if modules and isinstance(modules[0], nn.AvgPool2d) else None
    rest = modules if pool is None else modules[1:]
    if len(rest) != 1 or not isinstance(rest[0], nn.Linear | nn.Conv2d | Scale):
        return None
    operation = rest[0]
    if isinstance(operation, nn.Conv2d) and (
        operation.groups != 1 or operation.padding_mode != "zeros" or isinstance(operation.padding, str)
    ):
        return None
    if pool is not None and not isinstance(operation, Scale):
        kernel, stride, padding = _pairs(pool)
        if kernel != stride or padding != (0, 0):
            return None
    return pool, operation


def _pairs(pool: nn.AvgPool2d) -> list[tuple[int, int]]:
    values = pool.kernel_size, pool.stride, pool.padding
    return [value if isinstance(value, tuple) else (value, value) for value in values]


def padded(layer: ProgramLayer) -> tuple[int, int]:
    """(neurons, channels) of a layer when channels fill whole vectors."""
    width = -(-layer.shape[0] // LANES) * LANES
    return layer.shape.numel() // layer.shape[0] * width, width


def wire(synapse: Synapse, layer: ProgramLayer, fan_out: np.ndarray, source: Source, alone: bool) -> Wiring:
    """One synapse of a layer; alone: it is the layer's only one, so that its sums may be tabulated."""
    parts = _parts(synapse)
    assert parts is not None  # callers ask `supported` first
    pool, operation = parts
    if isinstance(operation, nn.Linear):
        made = _dense(operation, pool, layer, source)
    elif isinstance(operation, nn.Conv2d):
        made = _conv(operation, pool, layer, source, alone)
    else:
        made = _each(operation, pool, layer, source)
    made |= {"source": source.order, "sources": source.size, "fan_out": source.scattered(fan_out)}
    return Wiring(
        numbers={name: value for name, value in made.items() if not isinstance(value, np.ndarray)},
        arrays={name: value for name, value in made.items() if isinstance(value, np.ndarray)},
    )


def _pooled(source: Source, pool: nn.AvgPool2d | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """The output of a pool without overlap that each source neuron reaches, as a flat index or -1, and its shape (C, H, W)."""
    if pool is None:
        return np.arange(len(source.number_of)), tuple(source.shape)
    maps, height, wide = source.shape
    (kernel_y, kernel_x), _, _ = _pairs(pool)
    rows, columns = height // kernel_y, wide // kernel_x
    y, x = np.arange(height) // kernel_y, np.arange(wide) // kernel_x
    place = np.where((y < rows)[:, None] & (x < columns), y[:, None] * columns + x, -1)
    landed = np.arange(maps)[:, None, None] * (rows * columns) + place
    return np.where(place >= 0, landed, -1).ravel(), (maps, rows, columns)


def _dense(linear: nn.Linear, pool: nn.AvgPool2d | None, layer: ProgramLayer, source: Source) -> dict:
    landed, _ = _pooled(source, pool)
    neurons, _ = padded(layer)
    rows = np.zeros((source.size, neurons), np.int32)
    kept = landed >= 0
    rows[source.number_of[kept], : linear.out_features] = linear.weight.numpy().T[landed[kept]]
    whole = neurons // BLOCK * BLOCK  # blocks while they last, then vectors, each contiguous
    starts = [*range(0, whole, BLOCK), *range(whole, neurons, LANES)]
    blocks = [rows[:, a:b].ravel() for a, b in zip(starts, [*starts[1:], neurons], strict=True)]
    return {"kind": ROWS, "weights": np.concatenate(blocks)}


def _conv(conv: nn.Conv2d, pool: nn.AvgPool2d | None, layer: ProgramLayer, source: Source, alone: bool) -> dict:
    landed, shape = _pooled(source, pool)
    maps, height, wide = shape
    _, width = padded(layer)
    kernel_y, kernel_x = conv.kernel_size
    assert not isinstance(conv.padding, str)  # `supported` refuses it
    weights = np.zeros((maps, kernel_y * kernel_x, width), np.int32)
    weights[..., : conv.out_channels] = conv.weight.flatten(2).permute(1, 2, 0).numpy()
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and kernel_x <= 6 and wide + 2 * conv.padding[1] <= 64
    if alone and plain and maps * kernel_y * (width << kernel_x) * 4 <= WINDOWS_BYTES:
        return _windows(conv, weights.reshape(maps, kernel_y, kernel_x, width), layer, source, landed, shape)
    first, target, tap = _targets(
        (height, wide), layer.shape[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    place = np.where(landed >= 0, landed % (height * wide), height * wide)  # the last place has no targets
    return {
        "kind": CONV, "weights": weights, "first": np.append(first, first[-1]), "target": target * width,
        "tap": tap * width, "place": source.scattered(place),
        "map": source.scattered(np.maximum(landed, 0) // (height * wide) * kernel_y * kernel_x * width),
    }  # fmt: skip


def _windows(conv: nn.Conv2d, weights: np.ndarray, layer: ProgramLayer, source: Source, landed, shape) -> dict:
    maps, height, wide = shape
    kernel_y, kernel_x = conv.kernel_size
    assert not isinstance(conv.padding, str)  # `supported` refuses it
    lines = height + 2 * conv.padding[0]
    sums = np.zeros((maps, kernel_y, 1 << kernel_x, weights.shape[-1]), np.int32)
    for pattern in range(1 << kernel_x):
        sums[:, :, pattern] = weights[:, :, [k for k in range(kernel_x) if pattern >> k & 1]].sum(2)
    which, y, x = np.unravel_index(np.maximum(landed, 0), shape)
    bit = (which * lines + y + conv.padding[0]) * 64 + x + conv.padding[1]
    spare = maps * lines * 64  # a line that no window reads, for sources outside the pool's windows
    return {
        "kind": WINDOWS, "weights": sums, "map": source.scattered(np.where(landed >= 0, bit, spare)),
        "height": height, "width": wide, "maps": maps, "kernel_height": kernel_y, "kernel_width": kernel_x,
        "padded": lines, "out_height": layer.shape[1], "out_width": layer.shape[2],
    }  # fmt: skip


def _each(scale: Scale, pool: nn.AvgPool2d | None, layer: ProgramLayer, source: Source) -> dict:
    """Connections that share one weight: those of a pool, or one to one."""
    _, width = padded(layer)
    sides = (*source.shape[1:], 1, 1)[:2]
    kernel, stride, padding = _pairs(pool) if pool is not None else [(1, 1), (1, 1), (0, 0)]
    first, target, _ = _targets(sides, (*layer.shape[1:], 1, 1)[:2], kernel, stride, padding, (1, 1))
    maps = source.shape[0]
    order = np.concatenate([[0], np.tile(np.diff(first), maps).cumsum()])  # place p of map m reaches map m only
    targets = (target[None, :] * width + np.arange(maps)[:, None]).ravel()
    place = source.scattered(np.arange(len(source.number_of)))
    return {"kind": EACH, "first": order, "target": targets, "unit": int(scale.factor), "place": place}


def _targets(sides, outputs, kernel, stride, padding, dilation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outputs that each place reaches, and the tap of each: first (places + 1,), target and tap (first[-1],)."""
    first, target, tap = [0], [], []
    for y, x in np.ndindex(*sides):
        for ky, kx in np.ndindex(*kernel):
            oy, y_left = divmod(y + padding[0] - ky * dilation[0], stride[0])
            ox, x_left = divmod(x + padding[1] - kx * dilation[1], stride[1])
            if not y_left and not x_left and 0 <= oy < outputs[0] and 0 <= ox < outputs[1]:
                target.append(oy * outputs[1] + ox)
                tap.append(ky * kernel[1] + kx)
        first.append(len(target))
    return np.array(first), np.array(target, dtype=np.int64), np.array(tap, dtype=np.int64)
