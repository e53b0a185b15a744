"""A linear path of a network, from a layer to the next, as nodes of a NIR graph."""

import logging
from collections.abc import Sequence

import nir
import numpy as np
import torch
from torch import Tensor, nn

from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Embed, Pad, PlaceMap, Scale, Slice
from respike.errors import InputError
from respike.simulate.connections import path_shape

log = logging.getLogger(__name__)


class NodePath:
    """The nodes of one linear path. Factors, slices and paddings become a convolution of 1x1 (of maps) or an Affine."""

    def __init__(self, shape: torch.Size, layer: str):
        self.shape, self.layer = shape, layer
        self.nodes: list[nir.NIRNode] = []
        self.ends_in_bias = False  # whether a node that only adds the bias follows the weights
        self._clear()

    def _clear(self) -> None:
        self.map: Tensor | None = None  # (C', C) of the channels, not yet a node
        self.map_shape, self.stride, self.padding = self.shape, (1, 1), (0, 0)

    @property
    def weighted(self) -> nir.NIRNode | None:
        """The last node with weights, if no other node has the bias."""
        if self.ends_in_bias:
            return None
        return next((node for node in reversed(self.nodes) if isinstance(node, nir.Affine | nir.Conv2d)), None)

    def append(self, module: nn.Module) -> None:
        """Add a module of a synapse. Raises InputError for one that NIR cannot say."""
        shape = path_shape([module], self.shape)
        if isinstance(module, Scale | Embed | Pad | Slice):
            self._append_map(module)
        elif isinstance(module, nn.Flatten):
            self._flush()
            if module.start_dim not in (1, -len(self.shape)) or module.end_dim not in (-1, len(self.shape)):
                raise InputError(
                    f"layer '{self.layer}' reads a Flatten of the dimensions {module.start_dim} to {module.end_dim}; only one "
                    "of all dimensions after the batch can be written, as nn.Flatten()"
                )
            # counted from the end, the axes are the same with and without a batch, whichever a reader takes them for
            self.nodes.append(nir.Flatten({"input": np.array(self.shape)}, -len(self.shape), -1))
        elif isinstance(module, nn.Linear):
            self._flush()
            self.nodes.append(nir.Affine(array_of(module.weight), np.zeros(module.out_features, dtype=np.float32)))
        elif isinstance(module, nn.Conv2d):
            self._flush()
            self.nodes.append(self._convolution(module))
        elif isinstance(module, nn.AvgPool2d) and module.divisor_override == 1 and not module.ceil_mode:
            self._flush()
            settings = (np.array(pair(value)) for value in (module.kernel_size, module.stride, module.padding))
            self.nodes.append(nir.SumPool2d(*settings))
        elif not isinstance(module, nn.AvgPool2d | PlaceMap):
            raise InputError(f"NIR has no counterpart of the {type(module).__name__} before layer '{self.layer}'")
        else:
            raise InputError(
                f"NIR has no average pools with windows of unequal size, as before layer '{self.layer}'; use a pool that "
                "divides the map"
            )
        self.shape = shape
        if self.map is None:
            self._clear()

    def finished(
        self, gain: float, bias: Tensor | None, node_needed: bool, unit: float | None = None
    ) -> list[nir.NIRNode]:
        """The nodes, with weights multiplied by `gain`, and with a bias behind them: (C,) per channel, or (C, H, W).

        A bias per place needs `carries(bias, unit)`; unit: what it is a multiple of, None where it is not on a grid.
        """
        self._flush()
        if bias is not None and bias.ndim > 1:
            self._add_bias_by_place(bias, unit)
            bias = None
        last = next((node for node in reversed(self.nodes) if not isinstance(node, nir.Flatten)), None)
        width = len(last.bias) if isinstance(last, nir.Affine | nir.Conv2d) else 0
        fits = bias is None or (width and width % len(bias) == 0)
        if not fits or (not width and (gain != 1 or node_needed)):
            self.ends_in_bias = self.weighted is not None
            self.map = torch.eye(self.shape[0], dtype=torch.float64)
            self._flush(always=True)
            last = self.nodes[-1]
        if isinstance(last, nir.Affine | nir.Conv2d):
            if bias is not None:
                last.bias = array_of(bias.repeat_interleave(len(last.bias) // len(bias)))
            last.weight, last.bias = np.float32(gain) * last.weight, np.float32(gain) * last.bias
        return self.nodes

    def carries(self, bias: Tensor, unit: float | None) -> bool:
        """Whether a bias (C,) or (C, H, W) can be said behind the path: one per place by a zero-padded convolution only."""
        self._flush()
        return bias.ndim == 1 or self._border_weights(bias, unit) is not None

    def _add_bias_by_place(self, bias: Tensor, unit: float | None) -> None:
        """In front of the last convolution a channel of ones, which it weights: zero padding is where the bias differs."""
        weights, last = self._border_weights(bias, unit), self.nodes[-1]
        assert weights is not None and isinstance(last, nir.Conv2d)
        channels = last.weight.shape[1]
        ones = np.eye(channels + 1, channels, dtype=np.float32)[:, :, None, None]
        constant = np.eye(channels + 1, dtype=np.float32)[channels]
        wider, settings = (
            np.concatenate([last.weight, array_of(weights)], 1),
            (last.stride, last.padding, last.dilation),
        )
        self.nodes[-1:] = [
            nir.Conv2d(last.input_shape, ones, (1, 1), (0, 0), (1, 1), 1, constant),
            nir.Conv2d(last.input_shape, wider, *settings, 1, last.bias),
        ]

    def _border_weights(self, bias: Tensor, unit: float | None) -> Tensor | None:
        """Weights (C, 1, kernel height, kernel width) that make this bias (C, H, W) of a map of ones, or None."""
        last = self.nodes[-1] if self.nodes else None
        if not isinstance(last, nir.Conv2d) or len(last.weight) != len(bias):
            return None
        rows, columns = _reached(last, bias.shape[1:])
        weights = _solved(rows, _solved(columns, bias.double().mT).mT)
        if unit is not None:  # the taps that a place reaches are an interval, so that there is a solution on the grid
            weights = (weights / unit).round() * unit
        differs = float((rows @ weights @ columns.T - bias).abs().max())
        return weights[:, None] if differs <= (0 if unit is not None else 1e-9 * float(bias.abs().max())) else None

    def _append_map(self, module: Scale | Embed | Pad | Slice) -> None:
        if isinstance(module, Pad | Slice) and (self.stride, self.padding) != ((1, 1), (0, 0)):
            self._flush()
        channels = self.shape[0]
        own = torch.eye(channels, dtype=torch.float64)
        if isinstance(module, Scale):
            factor = module.factor.expand(channels) if module.factor.ndim == 0 else module.factor
            own = own * factor[:, None]
        elif isinstance(module, Embed):
            own = nn.functional.pad(own, (0, 0, module.before, module.after))
        elif isinstance(module, Slice):
            own = own[slice(*module.slices[0])]
            self._stride(
                [range(size)[slice(*part)] for size, part in zip(self.shape[1:], module.slices[1:], strict=False)]
            )
        elif len(self.shape) == 1:
            own = nn.functional.pad(own, (0, 0, *module.padding))
        else:
            sides = [*module.padding, *(0,) * (6 - len(module.padding))]
            if sides[0] != sides[1] or sides[2] != sides[3] or min(sides[:4]) < 0:
                raise InputError(f"NIR has no padding that differs by side, as before layer '{self.layer}'")
            own = nn.functional.pad(own, (0, 0, sides[4], sides[5]))
            self.padding = (sides[2], sides[0])
        self.map = own if self.map is None else own @ self.map

    def _stride(self, kept: list[range]) -> None:
        for axis, places in enumerate(kept):
            if places.start != 0 or len(places) != -(-self.shape[1 + axis] // places.step):
                raise InputError(f"NIR has no slices but every n-th position, as before layer '{self.layer}'")
        steps = [places.step for places in kept] + [1] * (2 - len(kept))
        self.stride = (self.stride[0] * steps[0], self.stride[1] * steps[1])

    def _flush(self, always: bool = False) -> None:
        """Make a node of the channels' map, unless it changes nothing."""
        if self.map is None:
            return
        same = self.map.shape[0] == self.map.shape[1] and torch.equal(self.map, torch.eye(len(self.map)).double())
        if always or not same or (self.stride, self.padding) != ((1, 1), (0, 0)):
            weight, bias = array_of(self.map), np.zeros(len(self.map), dtype=np.float32)
            if len(self.shape) == 1:
                self.nodes.append(nir.Affine(weight, bias))
            else:
                size = tuple(self.map_shape[1:])
                self.nodes.append(
                    nir.Conv2d(size, weight[:, :, None, None], self.stride, self.padding, (1, 1), 1, bias)
                )
        self._clear()

    def _convolution(self, conv: nn.Conv2d) -> nir.Conv2d:
        """A convolution without groups, which several readers refuse, and with a square kernel, if zeros can fill it up."""
        if conv.padding_mode != "zeros":
            raise InputError(f"NIR pads with zeros only; layer '{self.layer}' pads by {conv.padding_mode}")
        weight, padding = conv.weight.detach(), _padding(conv)
        if conv.groups > 1:
            blocks = weight.split(conv.out_channels // conv.groups)
            inputs = conv.in_channels // conv.groups
            parts = [
                nn.functional.pad(block, (0, 0, 0, 0, k * inputs, conv.in_channels - (k + 1) * inputs))
                for k, block in enumerate(blocks)
            ]
            weight = torch.cat(parts)
        more = [max(weight.shape[2:]) - side for side in weight.shape[2:]]
        if not isinstance(padding, str) and any(more) and not any(extra % 2 for extra in more):
            rows, columns = (extra // 2 for extra in more)
            weight = nn.functional.pad(weight, (columns, columns, rows, rows))
            dilation = pair(conv.dilation)
            padding = (padding[0] + rows * dilation[0], padding[1] + columns * dilation[1])
        size, bias = tuple(self.shape[1:]), np.zeros(len(weight), dtype=np.float32)
        if weight.shape[2] != weight.shape[3]:
            log.warning(
                "layer '%s' has a kernel of %dx%d, which nir 1.0.8 reads by nir.read(path, type_check=False) only",
                self.layer, *weight.shape[2:],
            )  # fmt: skip
        return nir.Conv2d(size, array_of(weight), pair(conv.stride), padding, pair(conv.dilation), 1, bias)


def _reached(conv: nir.Conv2d, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """1 where a tap of the kernel lies on the map, 0 where it lies on the padding, for the places (H, W) of the output.

    Returns (H, kernel height) and (W, kernel width): their products say it of the taps of a kernel.
    """
    found = []
    padding = pair(0 if conv.padding == "valid" else conv.padding) if conv.padding != "same" else (None, None)
    axes = zip(
        conv.weight.shape[2:], pair(conv.stride), padding, pair(conv.dilation), conv.input_shape, places, strict=True
    )
    for kernel, stride, before, dilation, size, count in axes:
        before = dilation * (kernel - 1) // 2 if before is None else before  # of "same" less above than below
        position = torch.arange(count)[:, None] * stride - before + torch.arange(kernel) * dilation
        found.append(((position >= 0) & (position < size)).double())
    return found[0], found[1]


def _solved(reached: Tensor, values: Tensor) -> Tensor:
    """x (C, kernel, M) with reached @ x = values (C, places, M), nearest, and 0 at taps that others already determine."""
    chosen: list[int] = []
    for tap in range(reached.shape[1]):
        if int(torch.linalg.matrix_rank(reached[:, [*chosen, tap]])) > len(chosen):
            chosen.append(tap)
    found = values.new_zeros(len(values), reached.shape[1], values.shape[2])
    found[:, chosen] = torch.linalg.pinv(reached[:, chosen]) @ values
    return found


def _padding(conv: nn.Conv2d) -> tuple[int, ...] | str:
    """The padding in numbers, or "same" where it differs by side."""
    if not isinstance(conv.padding, str):
        return pair(conv.padding)
    total = [d * (k - 1) if conv.padding == "same" else 0 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return "same" if any(side % 2 for side in total) else tuple(side // 2 for side in total)


def array_of(values: Tensor) -> np.ndarray:
    """The values as NIR keeps them: float32 on the CPU, in C order."""
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)
