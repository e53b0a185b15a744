"""The matrix-product floor: the bare products of all T steps, and nothing else. Runs in a process of its own.

Who computes every step of every layer densely cannot be faster; who follows the spikes can.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from respike.bench.timing import seconds
from respike.bench.workload import Work
from respike.convert.rate.rate_snn import RateSNN
from respike.simulate.connections import layer_shapes
from respike.simulate.rate.program import synapse_paths

ROWS = (100, 500, 2000)  # images times steps in one product
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products(snn: RateSNN, input_shape: torch.Size) -> list[tuple[nn.Module, torch.Size]]:
    """Every Linear and Conv2d of the network, as a copy, with the shape (without batch) of what it is given."""
    shapes = layer_shapes(synapse_paths(snn), input_shape)
    found = []
    for layer in snn.layers.values():
        for synapse in layer.synapses:
            x = torch.zeros(1, *shapes[synapse.source])
            for module in synapse:
                if isinstance(module, nn.Linear | nn.Conv2d):
                    found.append((copy.deepcopy(module), x.shape[1:]))
                    break
                x = module(x)
    return found


def macs(snn: RateSNN, input_shape: torch.Size) -> int:
    """Multiply-accumulates of one step for one image, as dense products count them: padding included."""
    total = 0
    for module, shape in products(snn, input_shape):
        outputs = module(torch.zeros(1, *shape)).numel()
        total += outputs * module.weight[0].numel()
    return total


def floor(work: str, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds of the bare products for 10,000 images of T steps, by dtype, at the best of several batch sizes.

    rows: how many images times steps are timed; the rest is proportional. Each size is timed `repeats` times, the least
    counts.
    """
    given = Work.load(work)
    shape = given.images.shape[1:]
    result: dict[str, Any] = {"macs": macs(given.snn, shape)}
    with torch.inference_mode():
        for name, dtype in DTYPES.items():
            tried = {
                size: _per_row(given.snn.float(), shape, dtype, size, rows, repeats) for size in ROWS if size <= rows
            }
            best = min(tried, key=tried.__getitem__)
            result |= {name: tried[best] * given.steps * 10_000, f"{name}_rows": best}
    return result


def _per_row(snn: RateSNN, shape: torch.Size, dtype: torch.dtype, size: int, rows: int, repeats: int) -> float:
    total = 0.0
    for module, given in products(snn, shape):
        module = module.to(dtype)
        spikes = (torch.rand(size, *given) < 0.2).to(dtype)
        module(spikes)
        total += min(seconds(_repeat, module, spikes, rows // size)[0] for _ in range(repeats))
    return total / (rows // size * size)


def _repeat(module: nn.Module, spikes: Tensor, times: int) -> None:
    for _ in range(times):
        module(spikes)
