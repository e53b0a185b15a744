"""Bounds of potentials from exact sums of products of 8-bit integers, in compiled C. B images, N neurons, F inputs."""

import ctypes
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.simulate.ttfs.crossings import REAL, shared
from respike.system.compiler import Source, library

SOURCE = Source.read(Path(__file__).with_name("bounds.c"))
BLOCK = 64  # neurons, as in bounds.c
MARK = 0.02  # share of the source's interval: most activations are far below the largest
LARGEST = 60_000  # inputs of a neuron whose sum fits in 32 bits
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}  # roundoff of a drive


class Layer(ctypes.Structure):
    """Sizes of a layer: the struct of bounds.c."""

    _fields_ = [
        *(
            (name, c_int64)
            for name in (
                "channels", "height", "width", "pad_y", "pad_x", "padded_height", "padded_width", "stride_y", "stride_x",
                "neurons", "out_height", "out_width", "count", "fan_in", "theta_place",
            )
        ),
        ("source_length", c_double),
        ("mark", c_double),
        ("error", c_double),
    ]  # fmt: skip


def fast(synapses: nn.Linear | nn.Conv2d, leads: Tensor) -> bool:
    """Whether the processor multiplies 8-bit integers fast, and a layer's sums of them fit in 32 bits."""
    dense = isinstance(synapses, nn.Linear) or synapses.groups == 1
    if leads.device.type != "cpu" or not dense or synapses.weight[0].numel() > LARGEST:
        return False
    built = library(SOURCE, REAL[leads.dtype])
    return built is not None and bool(built.fast())


class RoundedWeights:
    """A layer's weights as multiples of a step of each neuron, rounded up and down."""

    def __init__(self, synapses: nn.Linear | nn.Conv2d, weight: Tensor, alpha: Tensor):
        """weight: (N, ...F); alpha: one number per neuron, in any shape."""
        self.synapses, self.dtype, self.fan_in = synapses, weight.dtype, weight[0].numel()
        taps = weight[0, 0].numel()
        step, blocks = [], []
        for part in weight.double().view(len(weight), -1, taps).split(BLOCK):
            per_neuron = (part.abs().amax((1, 2), keepdim=True) / 254).clamp(min=2.0**-1000)
            step.append(per_neuron.flatten())
            share = F.pad(part / per_neuron, (0, 0, 0, -part.shape[1] % 4, 0, BLOCK - len(part)))
            up, down = share * (1 + 2.0**-40), share.clamp(min=0) * (1 - 2.0**-40)
            tables = torch.stack([up.clamp(min=0).ceil(), down.floor(), (-up).clamp(min=0).ceil()])
            fours = tables.view(3, BLOCK, -1, 4, taps).permute(
                0, 2, 4, 1, 3
            )  # table, four channels, tap, neuron, channel
            blocks.append(fours.to(torch.uint8).flatten())
        self.tables = torch.cat(blocks)
        flat = weight.double().flatten(1)
        minus = (-flat).clamp(min=0).sum(1)
        self.neurons = torch.stack(
            [torch.cat(step), alpha.flatten().clamp(min=0), flat.abs().sum(1), minus, flat.sum(1)]
        )

    def open(self, leads: Tensor, drive: Tensor, theta: Tensor, source_length: float) -> Tensor:
        """Pairs for which it is not proved that V stays below theta until the image's last input: bool (B, ...N).

        leads: (B, ...F); drive: sum_j J_ij lead_j (B, ...N), computed as a sum in the dtype of the leads; theta: (N,),
        (C, 1, 1) or (C, H, W), lowered by its own rounding errors; source_length: t_min - t_min_prev.
        """
        layer, offsets = self._layer(leads, drive, source_length)
        theta = theta.double().view(len(theta), -1).T.contiguous()  # (places or 1, N)
        layer.theta_place = theta.shape[1] if len(theta) > 1 else 0
        leads, drive, found = leads.contiguous(), drive.contiguous(), torch.empty(drive.shape, dtype=torch.bool)
        built = library(SOURCE, REAL[leads.dtype])
        assert built is not None  # as `fast` has found
        function = built.open_places
        function.restype, function.argtypes = None, [c_int64, *[c_void_p] * 8]

        def part(a: int, b: int) -> None:
            tables = leads[a:b], drive[a:b], offsets, self.tables, self.neurons, theta, found[a:b]
            function(b - a, ctypes.addressof(layer), *(c_void_p(table.data_ptr()) for table in tables))

        shared(part, len(leads), 1)
        return found

    def _layer(self, leads: Tensor, drive: Tensor, source_length: float) -> tuple[Layer, Tensor]:
        """The sizes, and where a neuron's fours of inputs lie behind the first: (count,), int32."""
        channels, height, width = (*leads.shape[1:], 1, 1)[:3]
        out_height, out_width = (*drive.shape[2:], 1, 1)[:2]
        left = right = top = bottom = 0
        kernel: tuple[int, ...] = (1, 1)
        stride: tuple[int, ...] = (1, 1)
        dilation: tuple[int, ...] = (1, 1)
        if isinstance(self.synapses, nn.Conv2d):
            left, right, top, bottom = self.synapses._reversed_padding_repeated_twice
            kernel, stride, dilation = self.synapses.kernel_size, self.synapses.stride, self.synapses.dilation
        rows, columns = height + top + bottom, width + left + right
        group, y, x = (torch.arange(n, dtype=torch.int32) for n in (-(-channels // 4), *kernel))
        at = (group * rows * columns)[:, None, None] + (y * dilation[0] * columns)[:, None] + x * dilation[1]
        mark = float(torch.tensor(MARK * source_length, dtype=torch.float32))
        layer = Layer(
            channels, height, width, top, left, rows, columns, *stride, len(self.neurons[0]), out_height, out_width,
            at.numel(), self.fan_in, 0, source_length, mark,
            1.01 * (self.fan_in + 16) * UNIT[self.dtype],
        )  # fmt: skip
        return layer, at.flatten().contiguous()
