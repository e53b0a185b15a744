"""Ours as a contender: `simulate` with one set of options. It chooses its own chunks and draws its own input."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from respike.convert.rate_snn import RateSNN
from respike.errors import InputError
from respike.simulate import SpikeRecord, simulate
from respike.simulate.kernels.events import runnable
from respike.simulate.settings import Settings


def simulator(
    snn: RateSNN, settings: dict[str, Any], double: bool = False, compiled: bool = False, **options: Any
) -> Callable[[Tensor], SpikeRecord]:
    """Images (B, C, H, W) -> SpikeRecord. double: weights in float64; compiled: refuse where plain torch would step in;
    options: further keywords of `simulate`.
    """
    snn = snn.double() if double else snn
    chosen = settings | options

    def run(images: Tensor) -> SpikeRecord:
        if compiled and not runnable(Settings(**chosen).compile(snn, images.shape[1:]), Settings(**chosen)):
            raise InputError("the compiled simulation does not run here: it wants a C compiler (set CC)")
        return simulate(snn, images, **chosen)

    return run
