"""tdBN and the neurons behind it: the place where a convolution's output becomes spikes. x_TBCHW, time first."""

from torch import Tensor, nn

from respike.layers.lif import LIFLayer, States
from respike.neurons.lif import LIF


class NormLIF(nn.Module):
    """spikes = LIF(tdBN(y)), or LIF(tdBN(y) + shortcut) at the end of a residual block.

    norm: of y, or Identity where it is folded into the convolution; shortcut_norm: of the shortcut, where that is a
    convolution's output too.
    """

    def __init__(self, neuron: LIF, norm: nn.Module, shortcut_norm: nn.Module | None = None):
        super().__init__()
        self.norm, self.shortcut_norm = norm, shortcut_norm or nn.Identity()
        self.lif = LIFLayer(neuron)

    def forward(
        self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None, states: States | None = None
    ) -> Tensor:
        """y (T, B, C, H, W), shortcut like it -> spikes (T, B, C, H, W).

        steps: T, where y has one step and is constant over time; states: as in `LIFLayer`.
        """
        return self.lif(self.current(y, shortcut, steps), states)

    def current(self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None) -> Tensor:
        """What the neurons integrate: (T, B, C, H, W)."""
        x = self.norm(y if steps is None else y.expand(steps, *y.shape[1:]))
        return x if shortcut is None else x + self.shortcut_norm(shortcut)
