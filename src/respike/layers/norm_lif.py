"""tdBN and the neurons behind it: the place where a convolution's output becomes spikes. x_TBCHW, time first."""

from torch import Tensor, nn

from respike.errors import InputError
from respike.layers import fused
from respike.layers.lif import LIFLayer, States
from respike.neurons.lif import LIF

BACKENDS = ("auto", "torch", "triton")


class NormLIF(nn.Module):
    """spikes = LIF(tdBN(y)), or LIF(tdBN(y) + shortcut) at the end of a residual block.

    norm: of y, or Identity where it is folded into the convolution; shortcut_norm: of the shortcut, where that is a
    convolution's output too; backend: "auto", in one fused operation where that can be done (on CPUs compiled, on GPUs in
    Triton), or "torch", by the modules `norm`, `shortcut_norm` and `lif` (on which hooks see currents); "triton" is for
    Triton's interpreter. Same result.
    """

    def __init__(
        self, neuron: LIF, norm: nn.Module, shortcut_norm: nn.Module | None = None, backend: str = "auto"
    ) -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise InputError(f"model.backend={backend}: unknown, choose one of {', '.join(BACKENDS)}")
        self.norm, self.shortcut_norm, self.backend = norm, shortcut_norm, backend
        self.lif = LIFLayer(neuron)

    def forward(
        self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None, states: States | None = None
    ) -> Tensor:
        """y (T, B, C, H, W), shortcut like it -> spikes (T, B, C, H, W), in the dtype of y.

        steps: T, where y has one step and is constant over time; states: as in `LIFLayer`.
        """
        norms = [self.norm, *([self.shortcut_norm] if self.shortcut_norm else [])]
        given = self.lif.neuron, steps or len(y), norms, y, shortcut
        kernels = fused.kernels(self.backend, *given) if states is None else None
        if kernels is not None:
            return fused.norm_lif(kernels, *given)
        return self.lif(self.current(y, shortcut, steps), states).to(y.dtype)

    def current(self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None) -> Tensor:
        """What the neurons integrate: (T, B, C, H, W)."""
        x = self.norm(y if steps is None else y.expand(steps, *y.shape[1:]))
        if shortcut is None:
            return x
        return x + (shortcut if self.shortcut_norm is None else self.shortcut_norm(shortcut))
