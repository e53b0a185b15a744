"""The functions of norm_lif.c on tensors. T steps, B images, C channels; x_TBCHW in memory with channels last."""

import ctypes
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from respike.layers.kernels.layout import empty_like
from respike.layers.kernels.support import shortcut_kind, supports
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron
from respike.neurons.surrogate import ATan, Rectangle, Sigmoid, Triangle
from respike.system.compiler import Source, library

SOURCE = Source.read(Path(__file__).with_name("norm_lif.c"))
DTYPES = (torch.float32, torch.bfloat16)
MOST_STEPS = 16  # potentials of all steps stay in registers
MIN_ROW = (
    128  # channels per row: maps with fewer are read with several places side by side, because short rows are slow
)
SHAPES = {
    Rectangle: ("-DRECTANGLE", "a"), Triangle: ("-DTRIANGLE", "a"),
    Sigmoid: ("-DSIGMOID", "steepness"), ATan: ("-DATAN", "steepness"),
}  # fmt: skip
KINDS = {"none": 0, "spikes": 1, "normed": 2}  # enum shortcut of norm_lif.c


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("places", "channels", "kind", "constant", "threads")),
        *((name, c_float) for name in ("v_th", "tau", "centre", "a")),
        *((name, c_void_p) for name in ("y", "shortcut", "scale", "shift", "shortcut_scale", "shortcut_shift")),
    ]


def built(neuron: Neuron, steps: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions for such neurons, or None: for another surrogate or dtype, too many steps, or without a compiler."""
    if dtype not in DTYPES or not supports(neuron, steps, SHAPES, MOST_STEPS):
        return None
    chosen = {"-DBF16": dtype == torch.bfloat16, "-DSOFT": neuron.reset == "subtract", "-DDETACH": neuron.detach_reset}
    flags = (
        SHAPES[type(neuron.surrogate)][0],
        f"-DSTEPS={steps}",
        *(flag for flag, wanted in chosen.items() if wanted),
    )
    return _library(*flags)


def can_run(neuron: Neuron, steps: int, y: Tensor) -> bool:
    """Whether the functions support the neuron on such a y."""
    return y.device.type == "cpu" and built(neuron, steps, y.dtype) is not None


def _functions(neuron: LIF, steps: int, y: Tensor) -> ctypes.CDLL:
    functions = built(neuron, steps, y.dtype)
    assert functions is not None  # callers ask `can_run` first
    return functions


@cache
def _library(*flags: str) -> ctypes.CDLL | None:
    return library(SOURCE, "-fopenmp", "-ffp-contract=off", *flags)


def side_by_side(channels: int, places: int) -> int:
    """How many places are treated as one place with as many times the channels."""
    together = 1
    while 2 * together * channels <= MIN_ROW and places % (2 * together) == 0:
        together *= 2
    return together


class NormLIFKernel:
    """The tensors of one layer, prepared for the functions.

    y (T or 1, B, C, H, W), with channels last; one step: constant over time; shortcut (T, B, C, H, W) or None; affine: float32
    scale and shift (C,) of y, and of the shortcut if it is normalized.
    """

    def __init__(
        self, neuron: LIF, steps: int, y: Tensor, shortcut: Tensor | None, affine: list[tuple[Tensor, Tensor]]
    ):
        self.functions, self.steps, self.y, self.shortcut = _functions(neuron, steps, y), steps, y, shortcut
        self.kind = shortcut_kind(shortcut, affine)
        channels, places = y.shape[2], y[0].numel() // y.shape[2]
        self.together = side_by_side(channels, places)
        self.kept = [part.repeat(self.together) for pair in affine for part in pair]  # the structure points to them
        shape = neuron.surrogate
        self.layer = _Layer(
            places // self.together, self.together * channels, KINDS[self.kind], len(y) != steps, torch.get_num_threads(),
            neuron.v_th, neuron.tau, neuron.v_th if shape.centre == "threshold" else 0.0,
            getattr(shape, SHAPES[type(shape)][1]), _at(y), _at(shortcut), *map(_at, self.kept),
        )  # fmt: skip

    def spikes(self) -> Tensor:
        """(T, B, C, H, W), in the dtype of y."""
        out = empty_like(self.y, self.steps)
        self.functions.forward(ctypes.byref(self.layer), _at(out))
        return out

    def sums(self, gradient: Tensor, means: Tensor) -> tuple[Tensor, Tensor | None]:
        """With d = dL/du: the sums of d, d (y - mean), d (shortcut - mean), float64 (3, C); and d, for a shortcut of spikes.

        gradient: dL/do (T, B, C, H, W), with channels last; means: float32 (2, C).
        """
        sums = torch.zeros(self.layer.threads, 3, self.together, self.y.shape[2], dtype=torch.float64)
        means = means.repeat(1, self.together)
        to_shortcut = empty_like(self.y, self.steps) if self.kind == "spikes" else None
        pointers = gradient, means, means[1], to_shortcut, sums
        self.functions.backward_sums(ctypes.byref(self.layer), *map(_at, pointers))
        return sums.sum((0, 2)), to_shortcut

    def gradients(
        self, gradient: Tensor, means: Tensor, slopes: Tensor, offsets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """dL/dy, and dL/dshortcut if it is normalized: scale d - slope (y - mean) - offset.

        means, slopes, offsets: float32 (2, C), of y and of the shortcut.
        """
        to_y = empty_like(self.y, len(self.y))
        to_shortcut = empty_like(self.y, self.steps) if self.kind == "normed" else None
        pointers = gradient, *(x.repeat(1, self.together) for x in (means, slopes, offsets)), to_y, to_shortcut
        self.functions.backward(ctypes.byref(self.layer), *map(_at, pointers))
        return to_y, to_shortcut


def moments(neuron: LIF, steps: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, float64 (C,), of y (T, B, C, H, W) with channels last."""
    channels, places = y.shape[2], y.numel() // y.shape[2]
    together = side_by_side(channels, places)
    rows, threads = places // together, torch.get_num_threads()
    parts = torch.zeros(threads, 2, together, channels, dtype=torch.float64)
    sizes = map(c_int64, (rows, together * channels, threads))
    _functions(neuron, steps, y).statistics(*sizes, _at(y), _at(parts))
    sums = parts.sum(0)
    pivots = y.permute(0, 1, 3, 4, 2).reshape(places, channels)[:together].double()
    means, squares = pivots + sums[0] / rows, sums[1] / rows - (sums[0] / rows) ** 2
    return means.mean(0), (squares.mean(0) + means.var(0, correction=0)).clamp_(min=0)


def _at(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())
