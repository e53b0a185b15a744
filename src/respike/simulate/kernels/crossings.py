"""The compiled search for first crossings (crossings.c). P pairs, R rows of inputs, F inputs of a neuron, N neurons."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_double, c_int64, c_void_p

import torch
from torch import Tensor

from respike.simulate.kernels.compiler import library

SOURCE = "crossings"


def compiled(device: torch.device) -> bool:
    """Whether the search can run compiled: on a CPU with a C compiler."""
    return device.type == "cpu" and library(SOURCE) is not None


def open_pairs(
    rows: Tensor, row: Tensor, weights: Tensor, neuron: Tensor, alpha: Tensor, theta: Tensor, source_length: float
) -> Tensor:
    """Pairs whose potential the bound does not keep below theta until the row's last input: bool (P,).

    rows: leads of inputs (R, F); row: of each pair (P,); weights (N, F); neuron: of each pair (P,); alpha (N,); theta (P,).
    """
    late = (-rows.amin(1)).clamp(min=0)
    found = torch.empty(len(row), dtype=torch.bool)
    _call("open", weights, source_length, (rows, late), row, neuron, alpha, theta, found)
    return found


def crossing_times(
    rows: Tensor, row: Tensor, weights: Tensor, neuron: Tensor, alpha: Tensor, theta: Tensor, source_length: float
) -> Tensor:
    """When each pair's potential reaches theta while inputs still arrive, counted from t_min, NaN where it does not: (P,)."""
    arrivals, order = (-rows).sort(dim=1)
    times = torch.empty(len(row), dtype=torch.float64)
    _call("cross", weights, -source_length, (arrivals, order.int()), row, neuron, alpha, theta, times)
    return times


def _call(
    name: str,
    weights: Tensor,
    number: float,
    tables: tuple[Tensor, Tensor],
    row: Tensor,
    neuron: Tensor,
    alpha: Tensor,
    theta: Tensor,
    result: Tensor,
) -> None:
    """Shares the pairs out to torch's threads; each writes its own part of the result."""
    real = "double" if weights.dtype == torch.float64 else "float"
    function: Callable = getattr(library(SOURCE), f"{name}_{real}")
    function.restype, function.argtypes = None, [c_int64, c_int64, c_double, *[c_void_p] * 8]
    first, second = (table.contiguous() for table in tables)
    weights, alpha, theta = weights.contiguous(), alpha.double().contiguous(), theta.double().contiguous()
    row, neuron = row.contiguous(), neuron.contiguous()

    def part(start: int, stop: int) -> None:
        pairs = (row[start:stop], weights, neuron[start:stop], alpha, theta[start:stop], result[start:stop])
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (first, second, *pairs)]
        function(stop - start, weights.shape[1], number, *pointers)

    threads = min(torch.get_num_threads(), 1 + len(row) // 256)
    cuts = [len(row) * i // threads for i in range(threads + 1)]
    if threads == 1:
        part(0, len(row))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, cuts[:-1], cuts[1:]))
