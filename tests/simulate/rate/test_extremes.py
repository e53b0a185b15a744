"""Weights, biases, thresholds and inputs of any size: each backend counts the spikes of Python's integers, or refuses."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from interpreted import DEVICE, kernels_of
from torch import nn

from respike.convert import no_norm
from respike.errors import InputError
from respike.neurons.encode import Current, Encoder, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate, simulate_stepwise
from respike.simulate.rate.input import encoded_input, largest_current
from respike.simulate.rate.kernels import triton_backend
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings

SUBTRACT = IntegrateFire(reset="subtract")
BACKENDS = ["torch", "events", *(["triton"] if kernels_of(triton_backend) is not None else [])]


def network(weights, biases):
    """A chain of Linear layers with ReLUs in between. weights: nested lists (outputs, inputs) of each layer."""
    layers = []
    for weight, bias in zip(weights, biases, strict=True):
        linear = nn.Linear(len(weight[0]), len(weight), bias=bias is not None).double()
        linear.weight.data = torch.tensor(weight, dtype=torch.float64)
        if bias is not None:
            linear.bias.data = torch.tensor(bias, dtype=torch.float64)
        layers += [linear, nn.ReLU()]
    return no_norm(nn.Sequential(nn.Flatten(), *layers[:-1]))


def run(snn, images, backend, **chosen):
    """Output spikes (B, N), or the message of the error."""
    try:
        if backend == "stepwise":
            return simulate_stepwise(snn, images, **chosen).counts.tolist()
        on = DEVICE if backend == "triton" else "cpu"
        return simulate(copy.deepcopy(snn).to(on), images.to(on), backend=backend, **chosen).counts.tolist()
    except InputError as error:
        return str(error)


def counts(layers, inputs, neurons):
    """Output spikes of one image. layers: (weights, biases) of exact numbers; inputs: of each step; neurons: of each layer,
    (threshold, start, fire_above, reset, blocked steps)."""
    v = [[start] * len(bias) for (_, bias), (_, start, *_) in zip(layers, neurons, strict=True)]
    waiting = [[0] * len(bias) for _, bias in layers]
    total = [0] * len(layers[-1][1])
    for values in inputs:
        for k, ((weight, bias), (threshold, _, above, reset, blocked)) in enumerate(zip(layers, neurons, strict=True)):
            fired = []
            for i, (row, constant) in enumerate(zip(weight, bias, strict=True)):
                is_blocked = waiting[k][i] > 0
                waiting[k][i] -= 1
                if not is_blocked:
                    v[k][i] += constant + sum(w * x for w, x in zip(row, values, strict=True))
                spikes = not is_blocked and (v[k][i] > threshold if above else v[k][i] >= threshold)
                if spikes:
                    v[k][i] = 0 if reset == "zero" else v[k][i] - threshold
                    waiting[k][i] = blocked
                fired.append(int(spikes))
            values = fired
        total = [a + b for a, b in zip(total, values, strict=True)]
    return total


def exact(snn, images, **chosen):
    """The spikes of a program's integers, in Python's."""
    settings = Settings(**chosen)
    program = compile_program(snn, images.shape[1:], settings, largest_current(images, settings))
    index, steps = torch.arange(len(images)), torch.arange(settings.steps)
    inputs = encoded_input(program, settings, images, index, steps).flatten(2)
    inputs = inputs.expand(settings.steps, *inputs.shape[1:]).tolist()
    layers, neurons = [], []
    for layer in program.layers:
        weighted, neuron = layer.synapses.synapses[0].weighted, layer.fixed_point_neuron
        bias = layer.synapses.bias
        bias = weighted.weight.new_zeros(len(weighted.weight)) if bias is None else bias
        assert weighted.bias is None and len(bias) == len(weighted.weight)
        assert all(value == int(value) for value in itertools.chain(*weighted.weight.tolist(), bias.tolist()))
        layers.append(([[int(w) for w in row] for row in weighted.weight.tolist()], [int(b) for b in bias.tolist()]))
        neurons.append(
            (neuron.threshold, neuron.start_potential, neuron.fire_above, neuron.reset, neuron.blocked_steps)
        )
    return [counts(layers, [[int(x) for x in step[b]] for step in inputs], neurons) for b in range(len(images))]


@pytest.mark.parametrize("backend", [*BACKENDS, "stepwise"])
@pytest.mark.parametrize(
    ("pixels", "steps", "bits"), [([5.0], 1, 16), ([2.64] * 784, 320, 8), ([-700.0, 701.0], 90, 8), ([1e6], 3, 16)]
)
def test_inputs_outside_the_unit_interval_are_counted_whole(backend, pixels, steps, bits):
    snn = network([[[1.0] * len(pixels)]], [None])
    images = torch.tensor(pixels).view(1, 1, 1, -1)
    chosen = {"encode": Current(), "neuron": SUBTRACT, "duration": steps / 1000, "weight_bits": bits}
    assert run(snn, images, backend, **chosen) == [[steps]]


class Doubled(Encoder):
    """A user's encoder that does not say its largest current."""

    analog = True

    def __call__(self, images, index, steps, dt, seed):
        return (images * 2.0**17)[None]


def test_the_currents_of_an_encoder_are_measured():
    snn, images = network([[[1.0]]], [None]), torch.ones(1, 1, 1, 1)
    for backend in [*BACKENDS, "stepwise"]:
        assert run(snn, images, backend, encode=Doubled(), neuron=SUBTRACT, duration=0.003) == [[3]]


@pytest.mark.parametrize("backend", ["torch", "events", "stepwise"])
@pytest.mark.parametrize("weight", [0.0, 1e-30, 1e-300])
@pytest.mark.parametrize(("bias", "spikes"), [(0.25, 25), (0.5, 50), (0.625, 62), (-3.0, 0), (1e4, 100), (1e-9, 0)])
def test_a_bias_without_weights_keeps_its_size(backend, weight, bias, spikes):
    """5/8 a step with a soft reset: 62 spikes in 100 steps."""
    snn = network([[[weight]]], [[bias]])
    chosen = {"neuron": SUBTRACT, "duration": 0.1}
    assert run(snn, torch.ones(1, 1, 1, 1), backend, **chosen) == [[spikes]]


def test_weights_too_large_for_the_grid_are_refused_with_the_bits_that_suffice():
    images, chosen = torch.ones(1, 1, 1, 1), {"duration": 0.1, "neuron": SUBTRACT}
    snn = network([[[3000.0], [1.0]]], [None])
    for backend in [*BACKENDS, "stepwise"]:
        message = run(snn, images, backend, **chosen)
        assert (
            message.startswith("simulate.weight_bits=16: layer 'linear1': weights of up to 3e+03")
            and "\n" not in message
        )
        assert "type simulate.weight_bits=17 or simulate.weight_bits=null" in message
        assert run(snn, images, backend, weight_bits=17, **chosen) == [[100, 100]]
        far = run(network([[[1e5], [1.0]]], [None]), images, backend, **chosen)
        assert "or type simulate.weight_bits=null" in far
        assert "not finite" in run(network([[[torch.nan]]], [None]), images, backend, **chosen)
    assert run(snn, images, "torch", weight_bits=None, **chosen) == [[100, 100]]
    with pytest.raises(InputError, match="finite pixels"):
        simulate(snn, images * torch.nan, encode=Current(), **chosen)


SIZES = st.sampled_from([0.0, 2.0**-140, 2.0**-20, 2.0**-5, 1.0, 2.0**4, 2.0**8, 2.0**15])
NEURONS = st.builds(
    IntegrateFire,
    threshold=st.sampled_from([1e-3, 0.3, 1.0, 17.3, 1e4]),
    reset=st.sampled_from(["zero", "subtract"]),
    t_ref=st.sampled_from([0.0, 0.0, 0.003, 1e7]),
    start=st.sampled_from([-1e4, -0.5, 0.0, 0.0, 0.9]),
    fire_above=st.booleans(),
)
EXTREMES = st.fixed_dictionaries(
    {
        "neuron": NEURONS,
        "weight_bits": st.sampled_from([2, 4, 8, 13, 16, 16, 20, 24]),
        "encode": st.sampled_from([Rate(600.0), Current(), Current(0.37), Current(100.0)]),
        "duration": st.sampled_from([0.001, 0.007, 0.06]),
        "drop_first_output": st.just(False),
    }
)


@st.composite
def nets(draw):
    """Weights and biases of one or two layers, each of its own size, with some far smaller than the largest."""
    sizes = [3, *draw(st.sampled_from([[2], [4, 2]]))]
    unit = st.floats(-1, 1).map(lambda x: round(x, 3))
    weights, biases = [], []
    for inputs, outputs in itertools.pairwise(sizes):
        size, bias_size = draw(SIZES), draw(SIZES)
        values = draw(st.lists(unit, min_size=inputs * outputs, max_size=inputs * outputs))
        weights.append([[x * size for x in values[i * inputs : (i + 1) * inputs]] for i in range(outputs)])
        drawn = draw(st.lists(unit, min_size=outputs, max_size=outputs))
        biases.append([x * bias_size for x in drawn] if draw(st.booleans()) else None)
    return weights, biases


PIXELS = st.lists(st.sampled_from([0.0, 1e-6, 0.2, 0.77, 1.0, 5.0, -3.3, 2.0**12, -(2.0**20)]), min_size=6, max_size=6)


def check(net, pixels, chosen, backends):
    snn, images = network(*net), torch.tensor(pixels).view(2, 3, 1, 1)
    images = images if chosen["encode"].analog else images.clamp(0, 1)
    try:
        expected = exact(snn, images, **chosen)
    except InputError as error:
        expected = str(error)
        assert "\n" not in expected
    for backend in backends:
        assert run(snn, images, backend, **chosen) == expected, backend


@given(nets(), PIXELS, EXTREMES)
@hypothesis_settings(max_examples=50)
def test_every_backend_counts_the_spikes_of_pythons_integers_or_refuses(net, pixels, chosen):
    check(net, pixels, chosen, ["torch", "events", "stepwise"])


@pytest.mark.skipif("triton" not in BACKENDS, reason="Triton is not installed")
@given(nets(), PIXELS, EXTREMES)
@hypothesis_settings(max_examples=4)
def test_the_kernels_of_the_gpu_too(net, pixels, chosen):
    check(net, pixels, chosen | {"duration": 0.007}, ["triton"])


@given(nets(), EXTREMES)
@hypothesis_settings(max_examples=40)
def test_what_is_accepted_is_near_the_network(net, chosen):
    """Weights, biases and the threshold are within the share of the threshold that the bits allow: 1/32 of it with 16."""
    snn, settings = network(*net), Settings(**(chosen | {"encode": Rate()}))
    try:
        program = compile_program(snn, torch.Size((3, 1, 1)), settings)
    except InputError:
        return
    bits, threshold = settings.weight_bits, settings.neuron.threshold
    allowed = threshold * 2.0 ** (3 - bits // 2)
    for layer, own in zip(program.layers, snn.layers.values(), strict=True):
        ours = layer.synapses.synapses[0].weighted
        unit = 2.0 ** round(math.log2(layer.neuron.threshold / threshold)) if bits >= 13 else None
        if unit is None:  # a threshold of one or two units says little about the unit
            continue
        assert abs(layer.neuron.threshold / unit - threshold) <= allowed
        assert float(ours.weight.abs().max()) < 2 ** (bits - 1)
        for rounded, exact_ in zip(ours.parameters(), own.parameters(), strict=True):
            assert float((rounded / unit - exact_).abs().max()) <= 0.5 / unit <= allowed
        assert (layer.synapses.bias is None) == (own.bias is None)
        if own.bias is not None:
            assert float((layer.synapses.bias / unit - own.bias).abs().max()) <= 0.5 / unit
