"""Layers and inputs whose spikes no rounding changes, and what a layer makes of them."""

from copy import deepcopy

import torch
from torch import nn

from respike.layers.norm_neuron import NormNeuron
from respike.layers.tdbn import TdBN
from respike.neurons.lif import LIF
from respike.neurons.surrogate import ATan, Rectangle, Sigmoid, Triangle

NEURONS = [
    LIF(),
    LIF(tau=0.5, surrogate=Rectangle(0.3, centre="zero")),
    LIF(surrogate=Triangle(), reset="subtract"),
    LIF(v_th=1.0, surrogate=ATan(), detach_reset=True),
    LIF(surrogate=Sigmoid()),
    LIF(tau=0.9, reset="subtract", detach_reset=True),
]
SHORTCUTS = ["none", "still", "spikes", "normed"]
MARGIN = 2e-5  # of potentials in float64 from all jumps, so that float32 cannot be on the other side of one


def make(neuron, shortcut, channels):
    norms = [TdBN(channels, neuron.v_th, 0.7) for _ in range(1 + (shortcut == "normed"))]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 2), nn.init.normal_(norm.bias, 0, 0.2)
    return NormNeuron(neuron, *norms)


def draw(neuron, shortcut, steps, channels, dtype=torch.float32, shape=(2, 4, 3)):
    """A layer, its inputs and a gradient, of the first seed that keeps every potential away from where spike or h jump."""
    for seed in range(100):
        torch.manual_seed(seed)
        layer, b, (h, w) = make(neuron, shortcut, channels), shape[0], shape[1:]
        y = torch.randn(1 if shortcut == "still" else steps, b, channels, h, w) + 3 * torch.randn(channels, 1, 1)
        other = torch.randn(steps, b, channels, h, w) - 1
        other = {"spikes": (other > -0.5).float(), "normed": other}.get(shortcut)
        inputs = [x.to(dtype) for x in (y, other) if x is not None]
        if _margin(layer, inputs, steps) > MARGIN:
            return layer, inputs, torch.randn(steps, b, channels, h, w).to(dtype)
    raise AssertionError("no seed keeps the margin")


@torch.no_grad()
def _margin(layer, inputs, steps):
    layer = deepcopy(layer).double()
    neuron, a = layer.neurons.neuron, getattr(layer.neurons.neuron.surrogate, "a", 0)
    centre = neuron.v_th if neuron.surrogate.centre == "threshold" else 0
    currents = layer.current(*(x.double() for x in inputs), steps=steps if len(inputs[0]) == 1 else None)
    state, margin = neuron.initial(currents[0]), 1.0
    for x in currents:
        state = neuron.step(x, state)
        for edge in (neuron.v_th, centre - a, centre + a):
            margin = min(margin, float((state.potential - edge).abs().min()))
    return margin


def results(layer, inputs, gradient, backend):
    """Spikes, the gradients of inputs and parameters, and the running statistics."""
    layer, steps = deepcopy(layer), len(gradient)
    layer.backend = backend
    inputs = [x.clone().requires_grad_() for x in inputs]
    spikes = layer(*inputs, steps=steps if len(inputs[0]) != steps else None)
    spikes.backward(gradient)
    parameters = {name: parameter.grad for name, parameter in layer.named_parameters()}
    found = {f"input {i}": x.grad for i, x in enumerate(inputs)} | parameters | dict(layer.named_buffers())
    return spikes.detach(), found


def assert_same_gradients(found, right, bfloat16=2**-8):
    """To float32 rounding, or to the one rounding to bfloat16 (of such a relative error) of what is written in it."""
    assert found.keys() == right.keys()
    for name, value in right.items():
        relative = bfloat16 if found[name].dtype == torch.bfloat16 else 1e-5
        size = 3e-6 * float(value.abs().max())
        torch.testing.assert_close(found[name].float(), value, rtol=relative, atol=size, msg=name)
