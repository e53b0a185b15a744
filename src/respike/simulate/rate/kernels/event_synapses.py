"""Synapses as layers.h reads them: neurons numbered with channels last, padded to LANES; integer weights.

S sources, N neurons of a layer, both padded. A synapse is one of four kinds, see layers.h. Whatever is no plain Linear or
Conv2d is a list of connections, composed from its modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array, kron
from torch import nn

from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Embed, Pad, PlaceMap, Scale, Slice
from respike.convert.rate.rate_snn import Synapse
from respike.simulate.connections import path_shape
from respike.simulate.rate.program import ProgramLayer

LANES, BLOCK = 16, 4 * 16  # neurons in a vector, and in a block of rows
ROWS, WINDOWS, CONV, EACH = range(4)
WINDOWS_BYTES = 1 << 15  # the largest table of window sums that fits the L1 cache
MAX_CONNECTIONS = 1 << 25  # of a list: 300 MB
SYNAPSE_NUMBERS = (
    "kind", "sources", "vectors", "maps", "kernel_height", "kernel_width", "padded", "out_height", "out_width",
    "across", "step_y", "step_x", "pad_y", "pad_x", "height", "width", "pitch", "depth", "units",
)  # fmt: skip
SYNAPSE_ARRAYS = ("weights", "place", "map", "shift", "table", "first", "target", "tap")
GATHER_ROWS = 1 << 15  # see gather.h
MOVES = nn.Flatten | Pad | Slice | Embed  # modules that only move values, and add zeros


@dataclass
class Wiring:
    """One synapse as layers.h reads it: numbers by SYNAPSE_NUMBERS, arrays by SYNAPSE_ARRAYS; absent ones are 0, NULL."""

    numbers: dict[str, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def has_weights_of_sums(self) -> bool:
        """Whether its weights have the width of the layer's sums; those of the other kinds are 32-bit numbers."""
        return self.numbers["kind"] in (ROWS, CONV)

    @property
    def largest(self) -> int:
        """The largest magnitude of a weight."""
        weights = self.arrays.get("weights", np.zeros(0, np.int16))
        return max(-int(weights.min(initial=0)), int(weights.max(initial=0)))


@dataclass(frozen=True)
class Neurons:
    """The neurons of a layer: shape (C, H, W) or (N,), number of each, padded size S, padded channels of one place."""

    shape: torch.Size
    number_of: np.ndarray
    size: int
    width: int

    @classmethod
    def of_layer(cls, shape: torch.Size) -> "Neurons":
        """The neurons of a layer, in vectors of channels."""
        width = -(-shape[0] // LANES) * LANES
        places = shape.numel() // shape[0]
        number_of = (np.arange(places, dtype=np.int32) * width + np.arange(shape[0], dtype=np.int32)[:, None]).ravel()
        return cls(shape, number_of, places * width, width)

    @classmethod
    def of_input(cls, shape: torch.Size) -> "Neurons":
        """The pixels of an image, in their own order."""
        return cls(shape, np.arange(shape.numel()), shape.numel(), 1)

    def maps(self, values: torch.Tensor) -> torch.Tensor:
        """Values by number (..., S) as a view (..., *shape)."""
        if self.width == 1:
            return values.unflatten(-1, self.shape)
        places = values.unflatten(-1, (*self.shape[1:], self.width))[..., : self.shape[0]]
        return places.movedim(-1, -len(self.shape))

    def numbered(self, maps: torch.Tensor) -> torch.Tensor:
        """Spikes (..., *shape) by number, uint8 (..., S)."""
        values = torch.zeros(
            *maps.shape[: maps.ndim - len(self.shape)], self.size, dtype=torch.uint8, device=maps.device
        )
        self.maps(values).copy_(maps)
        return values

    def scattered(self, values: np.ndarray) -> np.ndarray:
        """Values of neurons in (C, H, W) order, at the neurons' numbers; int32 (S,)."""
        placed = np.zeros(self.size, np.int32)
        placed[self.number_of] = values
        return placed


def lines(size: int) -> int:
    """A size in bytes, rounded up to cache lines, and one more: pieces neither share a line nor a page's offset."""
    return (size + 127) // 64 * 64


def aligned(array: np.ndarray, dtype: type) -> np.ndarray:
    """The array contiguous, in this dtype and from the beginning of a cache line on: a copy unless it is so already."""
    if array.dtype == dtype and array.flags.c_contiguous and array.ctypes.data % 64 == 0:
        return array
    made = aligned_memory(array.shape, dtype)
    made[...] = array
    return made


def aligned_memory(shape: int | tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """An uninitialized array that begins on a cache line."""
    total = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(total + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + total].view(dtype).reshape(shape)


def wire(synapse: Synapse, layer: ProgramLayer, source: Neurons, own: Neurons, alone: bool) -> Wiring | None:
    """One synapse of a layer; None for one with weights of more than 32 bits, or too many connections for a list.

    alone: it is the layer's only one, so that its sums may be tabulated.
    """
    weights = [*synapse.parameters(), *synapse.buffers()]
    if any(_largest(values) >= 1 << 31 for values in weights if values.numel()):
        return None
    made = _plain(list(synapse), layer.shape, source, own, alone)
    if made is None:
        matrix = connection_matrix(list(synapse), source.shape)
        if matrix is None or abs(matrix.data).max(initial=0) >= 1 << 31:
            return None
        made = _listed(matrix, source, own)
    made["sources"] = source.size
    return Wiring(
        numbers={name: value for name, value in made.items() if not isinstance(value, np.ndarray)},
        arrays={name: value for name, value in made.items() if isinstance(value, np.ndarray)},
    )


def _largest(values: torch.Tensor) -> float:
    """The largest magnitude, in memory of its own, not in a copy."""
    smallest, largest = torch.aminmax(values)
    return float(torch.maximum(-smallest, largest))


def _integers(weights: torch.Tensor) -> type:
    """The smaller of two dtypes of weights that holds these."""
    return np.int16 if _largest(weights) < 1 << 15 else np.int32


def wire_windows(
    layer: ProgramLayer, pool: nn.MaxPool2d, sources: Sequence[Neurons], own: Neurons
) -> list[Wiring] | None:
    """The synapses of a max-pool of spikes, one per source: the inputs of the sources, and the windows of each input.

    None where an input is not simply one neuron's spikes. The input behind the last has no windows.
    """
    shape = path_shape(list(layer.synapses.synapses[0]), sources[0].shape)
    inputs = shape.numel()
    reached, places = np.zeros(inputs, int), []
    for synapse, source in zip(layer.synapses.synapses, sources, strict=True):
        matrix = connection_matrix(list(synapse), source.shape)
        if matrix is None or (matrix.data != 1).any():
            return None
        targets = matrix.T.tocsr()
        if (np.diff(targets.indptr) > 1).any():
            return None
        lands = np.full(len(source.number_of), inputs)
        lands[np.diff(targets.indptr) == 1] = targets.indices
        reached += np.diff(matrix.indptr)
        places.append(source.scattered(lands))
    if (reached > 1).any():
        return None
    geometry = map(pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    first, target, _ = _targets(shape[-2:], layer.shape[-2:], *geometry)
    maps = shape[0] if len(shape) == 3 else 1
    width = own.width
    firsts = np.concatenate([[0], np.tile(np.diff(first), maps).cumsum()])
    windows = (target[None, :] * width + np.arange(maps)[:, None]).ravel()
    tables = {"first": np.append(firsts, firsts[-1]), "target": windows}
    return [
        Wiring({"kind": EACH, "sources": source.size}, {"place": place} | tables)
        for place, source in zip(places, sources, strict=True)
    ]


def _plain(modules: list[nn.Module], shape: torch.Size, source: Neurons, own: Neurons, alone: bool) -> dict | None:
    """A Linear or Conv2d behind modules that take each neuron to at most one place; None for anything else."""
    at = next((i for i, module in enumerate(modules) if isinstance(module, nn.Linear | nn.Conv2d)), None)
    if at is None or not all(isinstance(module, nn.Flatten | Embed) for module in modules[at + 1 :]):
        return None
    landing = _landing(modules[:at], source.shape)
    if landing is None:
        return None
    landed, reached = landing
    operation, embeds = modules[at], [module for module in modules[at + 1 :] if isinstance(module, Embed)]
    if isinstance(operation, nn.Linear):
        if len(shape) != 1 or len(reached) != 1 or embeds:
            return None
        return _dense(operation, landed, source, own)
    assert isinstance(operation, nn.Conv2d)
    if operation.padding_mode != "zeros" or isinstance(operation.padding, str) or len(reached) != 3:
        return None
    behind = path_shape([operation], torch.Size(reached))
    if len(shape) != 3 and behind[1:].numel() != 1:
        return None
    shift = sum(embed.before for embed in embeds)
    gathered: dict = {}
    pools = [module for module in modules[:at] if isinstance(module, nn.AvgPool2d)]
    if len(source.shape) == 3 and behind[0] == own.shape[0] and len(pools) == at:
        sides = [pair(pool.kernel_size) for pool in pools]
        pool = prod(y for y, _ in sides), prod(x for _, x in sides)
        gathered = _gathered(operation, pool, torch.Size(reached), behind, source, own)
    windows = alone and not pools and not gathered  # these hold one bit of a place, not the sum of a pool
    made = _conv(operation, landed, torch.Size(reached), behind, shift, source, own, windows)
    return made | gathered


def _landing(modules: list[nn.Module], shape: torch.Size) -> tuple[np.ndarray, torch.Size] | None:
    """The value behind the modules that each neuron reaches, as a flat index or -1, and the shape of these values.

    None where a neuron reaches several, or is multiplied.
    """
    landed = np.arange(shape.numel())
    for module in modules:
        behind = path_shape([module], shape)
        if isinstance(module, nn.AvgPool2d):
            kernel, stride, padding = map(pair, (module.kernel_size, module.stride, module.padding))
            if kernel != stride or padding != (0, 0) or len(shape) != 3:
                return None
            axes = [np.arange(size) // k for size, k in zip(shape[1:], kernel, strict=True)]
            rows, columns = behind[1:]
            place = np.where((axes[0] < rows)[:, None] & (axes[1] < columns), axes[0][:, None] * columns + axes[1], -1)
            moved = np.arange(shape[0])[:, None, None] * (rows * columns) + place
            moved = np.where(place >= 0, moved, -1).ravel()
        elif isinstance(module, MOVES):
            origin = _origin(module, shape)
            moved = np.full(shape.numel(), -1)
            moved[origin[origin >= 0]] = np.flatnonzero(origin >= 0)
        else:
            return None
        landed = np.where(landed >= 0, moved[landed], -1)
        shape = behind
    return landed, shape


def _origin(module: nn.Module, shape: torch.Size) -> np.ndarray:
    """For a module that only moves values: the flat index of the input that each of its outputs is, -1 for a zero."""
    numbers = torch.arange(1, shape.numel() + 1, dtype=torch.float64).view(1, *shape)
    return module(numbers).flatten().long().numpy() - 1


def _dense(linear: nn.Linear, landed: np.ndarray, source: Neurons, own: Neurons) -> dict:
    whole = own.size // BLOCK * BLOCK  # blocks while they last, then vectors, each contiguous
    starts = [*range(0, whole, BLOCK), *range(whole, own.size, LANES)]
    weights, kept = aligned_memory(source.size * own.size, _integers(linear.weight)), landed >= 0
    for a, b in pairwise([*starts, own.size]):  # in memory of a block, which a large layer's weights need not share
        block = weights[a * source.size : b * source.size].reshape(source.size, b - a)
        block[:] = 0
        rows = linear.weight.detach()[a:b].numpy()
        block[source.number_of[kept], : len(rows)] = rows.T[landed[kept]]
    return {"kind": ROWS, "weights": weights}


def _conv(
    conv: nn.Conv2d, landed: np.ndarray, reached: torch.Size, behind: torch.Size, shift: int, source: Neurons,
    own: Neurons, alone: bool,
) -> dict:  # fmt: skip
    """A convolution of maps of shape `reached` into maps of shape `behind`, the first of them at channel `shift` of the layer.

    The maps of a group are reached in whole vectors, with weights of 0 for those of its neighbours.
    """
    assert not isinstance(conv.padding, str)  # callers refuse it
    maps, height, wide = reached
    kernel_y, kernel_x = conv.kernel_size
    taps, groups = kernel_y * kernel_x, conv.groups
    inputs, outputs = maps // groups, conv.out_channels // groups
    starts = shift + np.arange(groups) * outputs  # of each group's maps
    lanes = max(-(-(int(start) % LANES + outputs) // LANES) for start in starts) * LANES
    begins = np.minimum(starts // LANES * LANES, own.width - lanes)
    weights = aligned_memory((maps, taps, lanes), _integers(conv.weight))
    weights[:] = 0
    grouped = conv.weight.detach().view(groups, outputs, inputs, taps).permute(0, 2, 3, 1).numpy()
    for group, (start, begin) in enumerate(zip(starts, begins, strict=True)):
        own_maps = slice(group * inputs, (group + 1) * inputs)
        weights[own_maps, :, start - begin : start - begin + outputs] = grouped[group]
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and kernel_x <= 6 and wide + 2 * conv.padding[1] <= 64
    whole = lanes == own.width and alone and plain
    if whole and maps * kernel_y * (lanes << kernel_x) * 4 <= WINDOWS_BYTES:
        return _windows(conv, weights.reshape(maps, kernel_y, kernel_x, lanes), behind, source, landed, reached)
    first, target, tap = _targets(
        (height, wide), behind[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    place = np.where(landed >= 0, landed % (height * wide), height * wide)  # the last place has no targets
    of_map = np.maximum(landed, 0) // (height * wide)
    made = {
        "kind": CONV, "vectors": lanes // LANES, "weights": weights, "first": np.append(first, first[-1]),
        "target": target * own.width, "tap": tap * lanes, "place": source.scattered(place),
        "map": source.scattered(of_map * taps * lanes),
    }  # fmt: skip
    return made | ({"shift": source.scattered(begins[of_map // inputs])} if begins.any() else {})


def _windows(conv: nn.Conv2d, weights: np.ndarray, behind: torch.Size, source: Neurons, landed, shape) -> dict:
    maps, height, _ = shape
    kernel_y, kernel_x = conv.kernel_size
    assert not isinstance(conv.padding, str)  # callers refuse it
    lines = height + 2 * conv.padding[0]
    sums = np.zeros((maps, kernel_y, 1 << kernel_x, weights.shape[-1]), np.int32)
    for pattern in range(1 << kernel_x):
        sums[:, :, pattern] = weights[:, :, [k for k in range(kernel_x) if pattern >> k & 1]].sum(2, dtype=np.int32)
    which, y, x = np.unravel_index(np.maximum(landed, 0), shape)
    bit = (which * lines + y + conv.padding[0]) * 64 + x + conv.padding[1]
    spare = maps * lines * 64  # a line that no window reads, for sources outside the pool's windows
    return {
        "kind": WINDOWS, "weights": sums, "map": source.scattered(np.where(landed >= 0, bit, spare)),
        "maps": maps, "kernel_height": kernel_y, "kernel_width": kernel_x,
        "padded": lines, "out_height": behind[1], "out_width": behind[2],
    }  # fmt: skip


def _gathered(
    conv: nn.Conv2d, pool: tuple[int, int], reached: torch.Size, behind: torch.Size, source: Neurons, own: Neurons
) -> dict:
    """What gather.h needs besides: windows of the source, each for some outputs side by side, and the table of their weights.

    pool: windows, without overlap, of the average pools in front of the convolution; reached: shape behind them. Empty where
    gather.h does not apply: weights of more than 16 bits, groups, pixels of an image, large windows.
    """
    assert not isinstance(conv.padding, str)  # callers refuse it
    kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    across = max(1, 4 * LANES // own.width) if kernel[1] > 1 else 1  # 64 channels or more at a time
    rows = ((kernel[0] - 1) * dilation[0] + 1) * pool[0]
    columns = ((kernel[1] - 1) * dilation[1] + 1 + (across - 1) * stride[1]) * pool[1]
    is_narrow = _integers(conv.weight) == np.int16
    if conv.groups != 1 or not is_narrow or source.width == 1 or rows * columns * source.width > GATHER_ROWS:
        return {}
    weights = conv.weight.detach().numpy().astype(np.int32)
    lanes = np.zeros((rows, columns, source.width, across, own.width), np.int32)
    for k, y, x in np.ndindex(across, *kernel):
        top, left = y * dilation[0] * pool[0], (k * stride[1] + x * dilation[1]) * pool[1]
        reading = lanes[top : top + pool[0], left : left + pool[1], : source.shape[0], k, : conv.out_channels]
        reading[:] = weights[:, :, y, x].T
    units = -(-across * own.width // (2 * LANES))
    units = units if units < 4 else -(-units // 4) * 4
    rows_of_lanes = lanes.reshape(rows * columns * source.width, -1)
    padding = units * 2 * LANES - rows_of_lanes.shape[1]
    pairs = np.pad(rows_of_lanes, ((0, 0), (0, padding))).reshape(-1, units, 2, LANES)
    return {
        "table": (pairs[:, :, 1] << 16) + pairs[:, :, 0] + (1 << 15), "units": units, "across": across,
        "kernel_height": rows, "kernel_width": columns, "step_y": stride[0] * pool[0], "step_x": stride[1] * pool[1],
        "pad_y": conv.padding[0] * pool[0], "pad_x": conv.padding[1] * pool[1],
        "height": min(reached[1] * pool[0], source.shape[1]), "width": min(reached[2] * pool[1], source.shape[2]),
        "pitch": source.shape[2], "depth": source.width, "out_height": behind[1], "out_width": behind[2],
    }  # fmt: skip


def connection_matrix(modules: list[nn.Module], shape: torch.Size) -> csr_array | None:
    """The linear map of a path, (values behind it, neurons in front); None if it has more than MAX_CONNECTIONS."""
    matrix = csr_array(diags_array(np.ones(shape.numel())))
    for module in modules:
        step = _module_matrix(module, shape)
        if step is None or step.nnz * max(1, matrix.nnz // matrix.shape[0]) > MAX_CONNECTIONS:
            return None
        matrix = csr_array(step @ matrix)
        shape = path_shape([module], shape)
    matrix.sum_duplicates()
    return matrix


def _module_matrix(module: nn.Module, shape: torch.Size) -> csr_array | None:
    behind, size = path_shape([module], shape), shape.numel()
    if isinstance(module, MOVES):
        origin = _origin(module, shape)
        kept = np.flatnonzero(origin >= 0)
        return csr_array((np.ones(len(kept)), (kept, origin[kept])), (len(origin), size))
    if isinstance(module, Scale):
        factor = module(torch.ones(1, *shape, dtype=torch.float64))
        return csr_array(diags_array(factor.flatten().numpy()))
    if isinstance(module, nn.Linear):
        few = len(shape) == 1 and int(module.weight.count_nonzero()) <= MAX_CONNECTIONS
        return csr_array(module.weight.detach().numpy()) if few else None
    maps, height, wide = (1, *shape)[-3:]
    if isinstance(module, PlaceMap):
        return csr_array(kron(eye_array(maps), kron(module.rows.numpy(), module.columns.numpy())))
    if isinstance(module, nn.AvgPool2d) and module.divisor_override == 1:
        kernel, stride, padding = map(pair, (module.kernel_size, module.stride, module.padding))
        first, target, _ = _targets((height, wide), behind[-2:], kernel, stride, padding, (1, 1))
        matrix = csr_array((np.ones(len(target)), target, first), (height * wide, behind[-2:].numel())).T
        which = np.arange(maps)
        one = csr_array(matrix).tocoo()
        rows, columns = (
            (which[:, None] * count + places).ravel()
            for count, places in zip(one.shape, (one.row, one.col), strict=True)
        )
        return csr_array((np.ones(len(rows)), (rows, columns)), (behind.numel(), size))
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        geometry = module.kernel_size, module.stride, module.padding, module.dilation
        first, target, tap = _targets((height, wide), behind[-2:], *geometry)
        place = np.repeat(np.arange(height * wide), np.diff(first))
        inputs, outputs = maps // module.groups, module.out_channels // module.groups
        if len(target) * maps * outputs > MAX_CONNECTIONS:
            return None
        which, to = (
            np.arange(maps)[:, None, None],
            np.arange(outputs)[None, :, None],
        )  # (maps, outputs of a group, connections)
        out = which // inputs * outputs + to
        weights = module.weight.detach().flatten(2).numpy()[out, which % inputs, tap]
        rows, columns = (
            out * behind[-2:].numel() + target,
            np.broadcast_to(which * (height * wide) + place, weights.shape),
        )
        return csr_array((weights.ravel(), (rows.ravel(), columns.ravel())), (behind.numel(), size))
    return None


def _listed(matrix: csr_array, source: Neurons, own: Neurons) -> dict:
    """Every connection in a list, by the number of its source."""
    found = matrix.tocoo()
    sources = source.number_of[found.col]
    order = np.argsort(sources, kind="stable")
    first = np.concatenate([[0], np.bincount(sources, minlength=source.size).cumsum()])
    return {
        "kind": EACH,
        "first": first,
        "target": own.number_of[found.row[order]],
        "weights": found.data[order].astype(np.int64),
    }


def _targets(sides, outputs, kernel, stride, padding, dilation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outputs that each place reaches, and the tap of each: first (places + 1,), target and tap (first[-1],)."""
    axes = []
    for axis in range(2):
        out, tap = np.indices((outputs[axis], kernel[axis])).reshape(2, -1)
        place = out * stride[axis] - padding[axis] + tap * dilation[axis]
        kept = (place >= 0) & (place < sides[axis])
        axes.append((place[kept], out[kept], tap[kept]))
    (y, out_y, tap_y), (x, out_x, tap_x) = [[values[:, None] for values in axes[0]], axes[1]]
    place, target, tap = (
        (y * sides[1] + x).ravel(),
        (out_y * outputs[1] + out_x).ravel(),
        (tap_y * kernel[1] + tap_x).ravel(),
    )
    order = np.lexsort((tap, place))
    first = np.concatenate([[0], np.bincount(place, minlength=sides[0] * sides[1]).cumsum()])
    return first, target[order], tap[order]
