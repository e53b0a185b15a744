"""A layer of leaky integrate-and-fire neurons: the module loops the equation of neurons/lif.py."""

from torch import Tensor, nn

from respike.neurons.lif import LIF, State

States = dict[nn.Module, State]  # of each layer after the steps so far, for whoever runs a net in parts of its time


class LIFLayer(nn.Module):
    """neuron: its equation."""

    def __init__(self, neuron: LIF):
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor, states: States | None = None) -> Tensor:
        """Currents x (T, B, ...) -> spikes (T, B, ...). states: go on from this layer's, if it is there, and leave it anew."""
        spikes, state = self.neuron.scan(x, (states or {}).get(self))
        if states is not None:
            states[self] = state
        return spikes

    def extra_repr(self) -> str:
        """The neuron, for print(net)."""
        return str(self.neuron)
