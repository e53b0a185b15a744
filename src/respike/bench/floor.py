"""The matrix-product floor: the time of the bare products of all T steps. Runs in a process of its own.

A simulation that computes every step of every layer densely cannot be faster. One that follows the spikes can.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from respike.bench.timing import seconds
from respike.bench.workload import Workload
from respike.convert.rate.rate_snn import RateSNN
from respike.simulate.connections import layer_shapes
from respike.simulate.rate.program import pools, synapse_paths

ROWS = (100, 500, 2000)  # images times steps in one product
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products(snn: RateSNN, input_shape: torch.Size) -> list[tuple[nn.Linear | nn.Conv2d, torch.Size]]:
    """A copy of every Linear and Conv2d of the network, with the shape of its input (without batch)."""
    shapes = layer_shapes(synapse_paths(snn), input_shape, pools(snn))
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
    """Multiply-accumulates of one step for one image in dense products, padding included."""
    total = 0
    for module, shape in products(snn, input_shape):
        outputs = module(torch.zeros(1, *shape)).numel()
        total += outputs * module.weight[0].numel()
    return total


def floor(workload: str, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds of the bare products for 10,000 images of T steps, for each dtype at the best of several batch sizes.

    workload: file of `Workload.save`. rows: images times steps that are timed; the result is scaled. Each size is timed
    `repeats` times, and the smallest time counts.
    """
    loaded = Workload.load(workload)
    shape = loaded.images.shape[1:]
    snn = loaded.snn.float()
    result: dict[str, Any] = {"macs": macs(snn, shape)}
    with torch.inference_mode():
        for name, dtype in DTYPES.items():
            tried = {size: _per_row(snn, shape, dtype, size, rows, repeats) for size in ROWS if size <= rows}
            best = min(tried, key=tried.__getitem__)
            result |= {name: tried[best] * loaded.steps * 10_000, f"{name}_rows": best}
    return result


def _per_row(snn: RateSNN, shape: torch.Size, dtype: torch.dtype, size: int, rows: int, repeats: int) -> float:
    total = 0.0
    for module, input_shape in products(snn, shape):
        module = module.to(dtype)
        spikes = (torch.rand(size, *input_shape) < 0.2).to(dtype)
        module(spikes)
        total += min(seconds(_repeat, module, spikes, rows // size)[0] for _ in range(repeats))
    return total / (rows // size * size)


def _repeat(module: nn.Module, spikes: Tensor, times: int) -> None:
    for _ in range(times):
        module(spikes)
