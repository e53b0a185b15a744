"""Which neurons the fused kernels know."""

import logging
from collections.abc import Container
from functools import cache

from respike.neurons.lif import LIF

log = logging.getLogger(__name__)


def fits(neuron: LIF, steps: int, surrogates: Container[type], most: int) -> bool:
    """Whether the neuron's surrogate is one of these and T at most so many; what does not fit is told once."""
    shape = type(neuron.surrogate)
    if shape not in surrogates:
        _tell(f"a surrogate {shape.__name__}")
    elif steps > most:
        _tell(f"T = {steps}, more than {most}")
    else:
        return True
    return False


@cache
def _tell(what: str) -> None:
    log.warning("%s: the fused kernels do not know that; plain modules instead, same result, slower", what)
