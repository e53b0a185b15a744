"""A layer without state, applied to all steps at once: time is folded into the batch."""

from collections.abc import Callable

from torch import Tensor


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """x (T, B, ...) -> layer(x of each step), (T, B, ...), by one call on (T*B, ...)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
