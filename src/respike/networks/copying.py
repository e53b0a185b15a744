"""A copy of a network in eval mode, for whoever must not change the network."""

import copy

from torch import Tensor, nn


def eval_copy(net: nn.Module, share: bool = False) -> nn.Module:
    """A copy of the network in eval mode. share: with the same weights, not with copies of them.

    Hooks of torch.nn.utils (pruning, weight norm) leave weights computed with gradients in their modules, which deepcopy
    refuses; the copy has their values.
    """
    computed = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    shared = {id(value): value for value in (*net.parameters(), *net.buffers())} if share else {}
    return copy.deepcopy(net, shared | computed).eval()
