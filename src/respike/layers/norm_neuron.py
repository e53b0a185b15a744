"""tdBN and the neurons behind it, where the output of a convolution becomes spikes. x_TBCHW, time first."""

from torch import Tensor, nn

from respike.errors import InputError
from respike.layers import fused
from respike.layers.neuron_layer import NeuronLayer, States
from respike.neurons.neuron import Neuron

BACKENDS = ("auto", "torch", "triton")


class NormNeuron(nn.Module):
    """spikes = neurons(tdBN(y)), or neurons(tdBN(y) + shortcut) at the end of a residual block.

    norm: of y, or Identity if it is folded into the convolution; shortcut_norm: of the shortcut, if that is the output of a
    convolution; backend: "auto" for one fused operation if the kernels support the neuron (compiled C on CPUs, Triton on
    GPUs), "torch" for the modules `norm`, `shortcut_norm` and `neurons` one after the other (hooks on them see the currents),
    "triton" for Triton's interpreter. The results are the same.
    """

    def __init__(
        self, neuron: Neuron, norm: nn.Module, shortcut_norm: nn.Module | None = None, backend: str = "auto"
    ) -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise InputError(f"model.backend={backend}: unknown, choose one of {', '.join(BACKENDS)}")
        self.norm, self.shortcut_norm, self.backend = norm, shortcut_norm, backend
        self.neurons = NeuronLayer(neuron)

    def forward(
        self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None, states: States | None = None
    ) -> Tensor:
        """y (T, B, C, H, W), shortcut of the same shape -> spikes (T, B, C, H, W), in the dtype of y.

        steps: T, if y has one step and is constant over time; states: as in `NeuronLayer`.
        """
        norms = [self.norm] if self.shortcut_norm is None else [self.norm, self.shortcut_norm]
        inputs = self.neurons.neuron, steps or len(y), norms, y, shortcut
        kernels = fused.choose_kernels(self.backend, *inputs) if states is None else None
        if kernels is not None:
            return fused.norm_lif(kernels, *inputs)
        return self.neurons(self.current(y, shortcut, steps), states).to(y.dtype)

    def current(self, y: Tensor, shortcut: Tensor | None = None, steps: int | None = None) -> Tensor:
        """The input current of the neurons: (T, B, C, H, W)."""
        x = self.norm(y if steps is None else y.expand(steps, *y.shape[1:]))
        if shortcut is None:
            return x
        return x + (shortcut if self.shortcut_norm is None else self.shortcut_norm(shortcut))
