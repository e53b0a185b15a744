"""Training steps of the directly trained ResNet-19: ours, fused and plain, and SpikingJelly's. In a process of its own."""

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from respike.bench.isolated import peak_mib
from respike.bench.timing import spread
from respike.networks.resnet19 import SpikingResNet19


def ours(
    width_mult: float, batch: int, timed: int, backend: str, bf16: bool = False, warm_up: int = 2
) -> dict[str, Any]:
    """As `timings`, of our network on the backend."""
    return timings(SpikingResNet19(width_mult=width_mult, backend=backend), batch, timed, bf16, warm_up)


def spikingjelly(width_mult: float, batch: int, timed: int, bf16: bool = False, warm_up: int = 2) -> dict[str, Any]:
    """As `timings`, of the same network from SpikingJelly's layers."""
    from respike.bench.peers.spikingjelly_resnet19 import multi_step

    return timings(multi_step(SpikingResNet19(width_mult=width_mult)), batch, timed, bf16, warm_up)


def timings(net: nn.Module, batch: int, timed: int, bf16: bool, warm_up: int) -> dict[str, Any]:
    """Median, least and most of `timed` training steps with Adam on a batch of random images, and memory per image.

    Memory: by how much the process's peak grows from a batch of one image to a whole one. bf16: under autocast.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    images, labels = torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))

    def seconds(count: int) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(images[:count]), labels[:count])
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    seconds(1)
    single = peak_mib()
    for _ in range(warm_up):
        seconds(batch)
    times = [seconds(batch) for _ in range(timed)]
    grown = (peak_mib() - single) / max(1, batch - 1)
    return {"batch": batch, "images": batch, "mib_per_image": grown} | spread(times, batch)
