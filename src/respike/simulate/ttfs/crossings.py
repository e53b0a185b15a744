"""The search for first crossings in compiled C (crossings.c). P pairs, R rows of inputs, F inputs of a neuron, N neurons."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from respike.system.compiler import Source, library

SOURCE = Source.read(Path(__file__).with_name("crossings.c"))
REAL = {torch.float64: "-DREAL=double", torch.float32: "-DREAL=float"}  # of leads and weights


def compiled(device: torch.device) -> bool:
    """Whether the search can run compiled: on a CPU with a C compiler."""
    return device.type == "cpu" and all(library(SOURCE, flag) is not None for flag in REAL.values())


def open_pairs(
    leads: Tensor,
    offsets: Tensor,
    minus: Tensor,
    magnitude: Tensor,
    keys: Tensor,
    weights: Tensor,
    neuron: Tensor,
    alpha: Tensor,
    theta: Tensor,
    source_length: float,
) -> Tensor:
    """Pairs for which the bound does not prove that the potential stays below theta until their last input: bool (P,).

    leads: of all inputs, flat; offsets (F,), keys (P,): pair p reads leads[keys[p] + offsets]; minus, magnitude: sums of
    max(-w, 0) and |w| (N,); weights (N, F); neuron: of each pair (P,); alpha (N,); theta (P,).
    """
    found = torch.empty(len(keys), dtype=torch.bool)
    function = _function("open_pairs", weights, 13)
    _pairs(function, source_length, (leads, offsets, minus, magnitude), keys, weights, neuron, alpha, theta, found)
    return found


def crossing_times(
    rows: Tensor, row: Tensor, weights: Tensor, neuron: Tensor, alpha: Tensor, theta: Tensor, source_length: float
) -> Tensor:
    """When each pair's potential reaches theta while inputs still arrive, counted from t_min, NaN if it does not: (P,)."""
    count, fan_in = rows.shape
    arrivals, order = rows.new_empty(count, fan_in + 1), torch.empty(count, fan_in, dtype=torch.int32)
    counts = torch.empty(count, dtype=torch.int64)
    sort_rows = _function("sort_rows", rows, 8)

    def part(a: int, b: int) -> None:
        scratch = torch.empty(3 * fan_in, dtype=torch.int32)
        tables = rows[a:b].contiguous(), arrivals[a:b], order[a:b], counts[a:b], scratch
        sort_rows(b - a, fan_in, -source_length, *(c_void_p(table.data_ptr()) for table in tables))

    shared(part, count, 16)
    times = torch.empty(len(row), dtype=torch.float64)
    tables = arrivals, order, counts
    _pairs(_function("crossing_times", weights, 12), -source_length, tables, row, weights, neuron, alpha, theta, times)
    return times


def _function(name: str, like: Tensor, arguments: int) -> Callable[..., None]:
    """The C function for numbers of the dtype of `like`; its arguments are two counts, a number and pointers."""
    found = getattr(library(SOURCE, REAL[like.dtype]), name)
    found.restype, found.argtypes = None, [c_int64, c_int64, c_double, *[c_void_p] * (arguments - 3)]
    return found


def _pairs(
    function: Callable[..., None],
    number: float,
    tables: tuple[Tensor, ...],
    row: Tensor,
    weights: Tensor,
    neuron: Tensor,
    alpha: Tensor,
    theta: Tensor,
    result: Tensor,
) -> None:
    """Calls a C function for all pairs, on all threads; tables: what it reads before its arguments per pair."""
    tables = tuple(table.contiguous() for table in tables)
    weights, alpha, theta = weights.contiguous(), alpha.double().contiguous(), theta.double().contiguous()
    row, neuron = row.contiguous(), neuron.contiguous()

    def part(a: int, b: int) -> None:
        used = (*tables, row[a:b], weights, neuron[a:b], alpha, theta[a:b], result[a:b])
        function(b - a, weights.shape[1], number, *(c_void_p(tensor.data_ptr()) for tensor in used))

    shared(part, len(row), 256)


def shared(part: Callable[[int, int], None], count: int, least: int) -> None:
    """Calls part(a, b) for consecutive ranges of 0 .. count, one per thread, with `least` or more items each."""
    threads = min(torch.get_num_threads(), 1 + count // least)
    cuts = [count * i // threads for i in range(threads + 1)]
    if threads == 1:
        part(0, count)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, cuts[:-1], cuts[1:]))
