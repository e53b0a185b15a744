"""A layer of neurons: the module runs the equation of a `Neuron` over all steps."""

from typing import Any

from torch import Tensor, nn

from respike.neurons.neuron import Neuron

States = dict[nn.Module, Any]  # the neurons' state of each layer after the last step, to run a network in parts of T


class NeuronLayer(nn.Module):
    """Neurons without parameters. neuron: the equation of each."""

    def __init__(self, neuron: Neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor, states: States | None = None) -> Tensor:
        """Currents x (T, B, ...) -> spikes (T, B, ...).

        states: continue from the state of this layer, if there is one, and store the state after the last step.
        """
        before = None if states is None else states.get(self)
        spikes, state = self.neuron.scan(x, state=before)
        if states is not None:
            states[self] = state
        return spikes

    def extra_repr(self) -> str:
        """The neuron, for print(net)."""
        return str(self.neuron)
