"""The Triton kernels (triton_kernels.py) on tensors, with the interface of compiled.py. T steps, B images, C channels."""

import logging
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from respike.layers.kernels.layout import empty_like
from respike.layers.kernels.support import shortcut_kind, supports
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron
from respike.neurons.surrogate import ATan, Rectangle, Sigmoid, Triangle

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_STEPS = 8  # potentials of all steps stay in registers
SHAPES = {
    Rectangle: ("rectangle", "a"), Triangle: ("triangle", "a"), Sigmoid: ("sigmoid", "steepness"), ATan: ("atan", "steepness"),
}  # fmt: skip
TILE = 2048  # numbers per step and program
log = logging.getLogger(__name__)
NO_FUSION = {"enable_fp_fusion": False}  # forward and backward must compute the same potentials


@cache
def triton_kernels() -> ModuleType | None:
    """The module of the kernels, or None if Triton cannot be imported, which is logged once."""
    try:
        from respike.layers.kernels import triton_kernels as kernels
    except ImportError:
        log.warning("Triton is not installed (pip install triton): plain PyTorch instead, same result, slower")
        return None
    return kernels


def can_run(neuron: Neuron, steps: int, y: Tensor) -> bool:
    """Whether the kernels support the neuron on such a y: on a CUDA device, or in Triton's interpreter."""
    if y.dtype not in DTYPES or not supports(neuron, steps, SHAPES, MOST_STEPS):
        return False
    kernels = triton_kernels()
    return kernels is not None and (y.device.type == "cuda" or kernels.INTERPRETED)


def _kernels() -> ModuleType:
    kernels = triton_kernels()
    assert kernels is not None  # callers ask `can_run` first
    return kernels


def _tiles(channels: int, places: int) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid of programs, and the size of the tile that each computes."""
    columns = min(128, 1 << (channels - 1).bit_length())
    rows = TILE // columns
    return (-(-places // rows), -(-channels // columns)), {"ROWS": rows, "COLUMNS": columns}


def moments(neuron: LIF, steps: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, float64 (C,), of y (T, B, C, H, W) with channels last."""
    channels, places = y.shape[2], y.numel() // y.shape[2]
    grid, tile = _tiles(channels, places)
    sums = torch.empty(grid[0], 2, channels, device=y.device)
    _kernels().moments[grid](y, sums, places, channels, **tile)
    shifted, squares = sums.double().sum(0) / places
    return y[0, 0, :, 0, 0].double() + shifted, (squares - shifted**2).clamp_(min=0)


class NormLIFKernel:
    """The tensors of one layer, prepared for the kernels; as in compiled.py."""

    def __init__(
        self, neuron: LIF, steps: int, y: Tensor, shortcut: Tensor | None, affine: list[tuple[Tensor, Tensor]]
    ):
        self.kernels, self.steps, self.y = _kernels(), steps, y
        self.kind = shortcut_kind(shortcut, affine)
        self.tensors = y, y if shortcut is None else shortcut, *affine[0], *affine[-1]
        self.channels, self.places = y.shape[2], y[0].numel() // y.shape[2]
        self.grid, tile = _tiles(self.channels, self.places)
        surrogate, (shape, name) = neuron.surrogate, SHAPES[type(neuron.surrogate)]
        self.numbers = self.places, self.channels, neuron.v_th, neuron.tau
        self.window = neuron.v_th if surrogate.centre == "threshold" else 0.0, float(getattr(surrogate, name))
        how = {"STEPS": steps, "KIND": self.kind, "CONSTANT": len(y) != steps, "SOFT": neuron.reset == "subtract"}
        self.how, self.learns = how | tile | NO_FUSION, {"SHAPE": shape, "DETACH": neuron.detach_reset}

    def spikes(self) -> Tensor:
        """(T, B, C, H, W), in the dtype of y."""
        out = empty_like(self.y, self.steps)
        self.kernels.forward[self.grid](*self.tensors, out, *self.numbers, **self.how)
        return out

    def sums(self, gradient: Tensor, means: Tensor) -> tuple[Tensor, Tensor | None]:
        """With d = dL/du: the sums of d, d (y - mean), d (shortcut - mean), float64 (3, C); and d, for a shortcut of spikes."""
        to_shortcut = empty_like(self.y, self.steps) if self.kind == "spikes" else None
        sums = torch.zeros(self.grid[0], 3, self.channels, device=self.y.device)
        given = *self.tensors, gradient, *means, self.y if to_shortcut is None else to_shortcut, sums
        self.kernels.backward_sums[self.grid](*given, *self.numbers, *self.window, **self.how, **self.learns)
        return sums.double().sum(0), to_shortcut

    def gradients(
        self, gradient: Tensor, means: Tensor, slopes: Tensor, offsets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """dL/dy, and dL/dshortcut if it is normalized: scale d - slope (y - mean) - offset.

        means, slopes, offsets: float32 (2, C), of y and of the shortcut.
        """
        to_y = empty_like(self.y, len(self.y))
        to_shortcut = empty_like(self.y, self.steps) if self.kind == "normed" else None
        pairs = (*means, slopes[0], slopes[-1], offsets[0], offsets[-1])
        given = *self.tensors, gradient, *pairs, to_y, to_y if to_shortcut is None else to_shortcut
        self.kernels.backward[self.grid](*given, *self.numbers, *self.window, **self.how, **self.learns)
        return to_y, to_shortcut
