"""The Triton kernels of tdBN + shortcut + LIF give the plain modules' spikes and gradients.

On a CUDA device where there is one; else in Triton's interpreter, which runs the same source on numpy, slowly.
"""

import pytest
import torch
from drawn import NEURONS, SHORTCUTS, assert_same_gradients, draw, results
from interpreted import DEVICE, kernels_of, needs

from respike.layers.kernels import triton_backend
from respike.neurons.lif import LIF

kernels = kernels_of(triton_backend)
needs_triton = needs(kernels)


def on_device(layer, inputs, gradient):
    return layer.to(DEVICE), [x.to(DEVICE) for x in inputs], gradient.to(DEVICE)


@needs_triton
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_spikes_and_gradients_are_the_plain_modules_to_float32_rounding(shortcut, neuron):
    steps, channels = (3, 5) if shortcut == "normed" else (2, 8)
    given = on_device(*draw(neuron, shortcut, steps, channels))
    assert triton_backend.can_run(neuron, steps, given[1][0])
    spikes, found = results(*given, "triton")
    expected, right = results(*given, "torch")
    assert torch.equal(spikes, expected)
    assert_same_gradients(found, right)


@needs_triton
def test_many_programs_share_places_and_channels():
    """More channels than a program has columns, more places than it has rows, and a rest of both."""
    given = on_device(*draw(LIF(), "spikes", 2, 130, shape=(1, 5, 7)))
    (grid, _) = triton_backend._tiles(130, 35)
    assert grid == (3, 2)
    spikes, found = results(*given, "triton")
    expected, right = results(*given, "torch")
    assert torch.equal(spikes, expected)
    assert_same_gradients(found, right)


@needs_triton
@pytest.mark.parametrize("shortcut", ["spikes", "still"])
def test_bfloat16_differs_from_float32_by_the_rounding_of_what_is_written(shortcut):
    layer, inputs, gradient = on_device(*draw(LIF(), shortcut, 2, 12, torch.bfloat16))
    spikes, found = results(layer, inputs, gradient, "triton")
    expected, right = results(layer, [x.float() for x in inputs], gradient.float(), "torch")
    assert spikes.dtype == torch.bfloat16 and torch.equal(spikes.float(), expected)
    assert_same_gradients(found, right, 2**-7 if kernels.INTERPRETED else 2**-8)  # the interpreter cuts bits off
