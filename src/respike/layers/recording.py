"""Access to the spikes of a network while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def spike_hooks(net: nn.Module, receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside the context, receive(name, spikes (T, B, ...)) is called for every spiking layer that the network computes.

    net: a network with `spiking_layers()`, its modules that return spikes, by name.
    """
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, spikes, name=name: receive(name, spikes))
        for name, layer in net.spiking_layers().items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
