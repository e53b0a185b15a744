"""Ours as a contender: `simulate` with one set of options. It chooses its own chunks and draws its own input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError
from respike.simulate import SpikeRecord, simulate
from respike.simulate.rate.kernels import event_bounds, gpu
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings

WANTS = {
    "events": (event_bounds.runnable, "the compiled simulation does not run here: it wants a C compiler (set CC)"),
    "triton": (gpu.runnable, "the Triton kernels do not run here: they want a CUDA device"),
}


def simulator(
    snn: RateSNN, settings: dict[str, Any], double: bool = False, device: str = "cpu", **options: Any
) -> Callable[[Tensor], SpikeRecord]:
    """Images (B, C, H, W) -> SpikeRecord. double: weights in float64; options: further keywords of `simulate`.

    Raises InputError where the backend asked for does not run, and plain torch would step in.
    """
    chosen = settings | options
    backend = chosen.get("backend", "auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(WANTS["triton"][1])
    snn = (snn.double() if double else snn).to(device)
    checked = backend not in WANTS

    def run(images: Tensor) -> SpikeRecord:
        nonlocal checked
        if not checked:
            checked, wanted = True, Settings(**chosen)
            if not WANTS[backend][0](compile_program(snn, images.shape[1:], wanted), wanted):
                raise InputError(WANTS[backend][1])
        return simulate(snn, images.to(device), **chosen)

    return run
