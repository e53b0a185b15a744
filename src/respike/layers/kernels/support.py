"""What the fused kernels support."""

import logging
from collections.abc import Container
from functools import cache
from typing import Literal, TypeGuard

from torch import Tensor

from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron

log = logging.getLogger(__name__)


def supports(neuron: Neuron, steps: int, surrogates: Container[type], most: int) -> TypeGuard[LIF]:
    """Whether the neuron is a LIF with one of these surrogates, and T at most `most`. Logs each unsupported property once."""
    if type(neuron) is not LIF:
        _log_unsupported(f"the neuron {type(neuron).__name__}")
    elif type(neuron.surrogate) not in surrogates:
        _log_unsupported(f"the surrogate {type(neuron.surrogate).__name__}")
    elif steps > most:
        _log_unsupported(f"T = {steps}, more than {most},")
    else:
        return True
    return False


def shortcut_kind(shortcut: Tensor | None, affine: list[tuple[Tensor, Tensor]]) -> Literal["none", "spikes", "normed"]:
    """ "none" without a shortcut, "spikes" for one that is added unchanged, "normed" for one with a scale and shift of its own.

    affine: scale and shift of y, and of the shortcut if it is normalized.
    """
    if shortcut is None:
        return "none"
    return "spikes" if len(affine) == 1 else "normed"


@cache
def _log_unsupported(what: str) -> None:
    log.warning("the fused kernels do not support %s: plain PyTorch instead, same result, slower", what)
