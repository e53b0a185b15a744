"""What the bounds prove is so, in exact rational arithmetic; and they prove all but what float32 cannot tell apart."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from respike.simulate.ttfs import bounds
from respike.simulate.ttfs.patches import Patches
from respike.simulate.ttfs.program import LayerProgram
from respike.simulate.ttfs.search import Tile, search

CONV = st.builds(
    lambda channels, maps, kernel, stride, padding, dilation: nn.Conv2d(
        channels, maps, kernel, stride, padding, dilation, bias=False
    ),
    st.sampled_from([1, 3, 16, 33, 64]),
    st.sampled_from([1, 5, 16, 48]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(2, 4)),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.integers(1, 2),
)
NARROW = st.tuples(st.integers(5, 9), st.integers(5, 6))  # one or two columns remain
EXPONENTS = st.sampled_from([-140, -60, 0, 0, 0, 60, 126])
SPARSE = st.sampled_from([0.0, 0.5])


DTYPES = st.sampled_from([torch.float64, torch.float32])


def drawn(
    synapses, shape, seed, weight_exponent, lead_exponent, zeros=0.0, negative=True, images=1, dtype=torch.float64
):
    """A layer whose alpha and interval have the magnitude of its sums, and leads (B, ...) for it."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size):
        values = torch.rand(size, dtype=torch.float64, generator=generator)
        return values * (torch.rand(size, generator=generator) >= zeros)

    weight = uniform(*synapses.weight.shape) - (0.5 if negative else 0)
    leads = uniform(images, *shape) ** (4 if zeros else 1) * 2.0**lead_exponent  # sparse ones are far below the largest
    weight, leads = (weight * 2.0**weight_exponent).to(dtype), leads.to(dtype)
    per_neuron = len(weight), *[1] * (weight.ndim - 2)
    alpha = torch.full(per_neuron, 2.0**weight_exponent, dtype=torch.float64)
    length = 2.0**lead_exponent * (0.3 if seed % 3 == 0 and negative else 1.25)  # the drive may begin after inputs
    nothing = torch.zeros_like(alpha)
    return LayerProgram("layer", synapses, weight, alpha, alpha + 1, nothing, nothing, length, length), leads


def largest(program, leads, late):
    """The largest potential of about 20 neurons for one image up to its last input, exactly, and 0 for the others: by place.

    late: how long after t_min the image's last input arrives.
    """
    patches = Patches(program.synapses, leads)
    shape = program.drive(leads).shape
    chosen = torch.zeros(shape, dtype=torch.bool)
    chosen.view(-1)[:: 1 + shape.numel() // 20] = True
    keys, neurons, places = patches.neurons(chosen)
    found = [Fraction(0)] * shape.numel()
    weights, alphas = program.weight.flatten(1).tolist(), program.alpha.flatten().tolist()
    for key, neuron, place in zip(keys, neurons.tolist(), places.tolist(), strict=True):
        arrivals = list(zip(patches.rows(key[None])[0].tolist(), weights[neuron], strict=True))
        arrivals.append((program.source_length, alphas[neuron]))
        v = slope = Fraction(0)
        before = None
        for lead, jump in [*sorted(arrivals, reverse=True), (-late, 0.0)]:
            lead = Fraction(lead)
            v += slope * ((before or lead) - lead) if before is not None else 0
            found[place] = max(found[place], v)
            before, slope = lead, slope + Fraction(jump)
    return shape, found


def not_above(values, shape):
    """Exact values as float64, never rounded up."""
    rounded = [(float(value), value) for value in values]
    down = [x if Fraction(x) <= value else math.nextafter(x, -math.inf) for x, value in rounded]
    return torch.tensor(down, dtype=torch.float64).view(shape)


def assert_nothing_proved(program, leads, pairs=True):
    """Neither by a bound of whole layers, three times, nor by those of single pairs, which end with a pair's own last input."""
    layers = [bound(leads) for bound in (program.uncertain, program.uncertain_in_float32) for _ in range(3)]
    assert all(bool(uncertain.all()) for uncertain in layers)
    every = torch.full_like(layers[0], pairs)
    assert search(program, leads, torch.zeros(every.shape).to(leads), every, authors=False, prove=True)[0] == 0


@given(CONV, NARROW, st.integers(0, 99), EXPONENTS, EXPONENTS, SPARSE, st.booleans(), st.booleans(), DTYPES)
@example(nn.Conv2d(64, 5, 3, (2, 3), bias=False), (9, 5), 0, 126, 60, 0.5, True, True, torch.float64)
def test_no_pair_whose_potential_reaches_the_threshold_is_proved(
    conv, size, seed, weight_exponent, lead_exponent, zeros, negative, flushed, dtype
):
    """Thresholds are the largest potentials. Sums may overflow or underflow float32, with subnormal numbers or without."""
    program, leads = drawn(
        conv, (conv.in_channels, *size), seed, weight_exponent, lead_exponent, zeros, negative, dtype=dtype
    )
    shape, reached = largest(program, leads, 0)
    at = replace(program, theta=not_above(reached, shape[1:]))
    torch.set_flush_denormal(flushed)
    try:
        assert_nothing_proved(at, leads)
    finally:
        torch.set_flush_denormal(False)


@given(CONV, NARROW, st.integers(0, 99), EXPONENTS, st.booleans(), DTYPES)
def test_nothing_wrong_is_proved_where_inputs_are_late_and_padding_is_not(conv, size, seed, exponent, negative, dtype):
    program, leads = drawn(conv, (conv.in_channels, *size), seed, 0, exponent, 0.5, negative, dtype=dtype)
    leads = leads - 2.0**exponent / 3
    shape, reached = largest(program, leads, max(0.0, -float(leads.min())))
    assert_nothing_proved(replace(program, theta=not_above(reached, shape[1:])), leads, pairs=False)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99), EXPONENTS, SPARSE, st.booleans())
def test_nothing_wrong_is_proved_in_a_linear_layer(inputs, neurons, seed, exponent, zeros, negative):
    program, leads = drawn(nn.Linear(inputs, neurons, bias=False), (inputs,), seed, 0, exponent, zeros, negative)
    leads = leads - 2.0**exponent / 3
    late = max(0.0, -float(leads.min()))
    shape, reached = largest(program, leads, late)
    at = replace(program, theta=not_above(reached, shape[1:]))
    assert_nothing_proved(at, leads)
    every = torch.ones(shape, dtype=torch.bool)
    patches = Patches(at.synapses, leads)
    keys, rows, places = patches.neurons(every)
    tile = Tile(
        patches.rows(keys), torch.arange(len(keys)), at.weight[rows], at.alpha[rows], at.theta[places], at.source_length
    )
    assert bool(tile.uncertain().all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_rounding_adds_to_leads_is_not_taken_for_excitation(dtype):
    """Twenty excitatory inputs at the very end, each far below a step of the rounded leads, and inhibition before them."""
    program, leads = drawn(nn.Linear(21, 1, bias=False), (21,), 0, 0, 0, dtype=dtype)
    program = replace(program, weight=torch.ones(1, 21).to(leads), alpha=torch.ones(1).double(), source_length=1.0)
    program.weight[0, 0], leads[:], leads[0, 0] = -2, 1e-9, 0.019
    shape, reached = largest(program, leads, 0)
    assert_nothing_proved(replace(program, theta=not_above(reached, shape[1:])), leads)
    assert not bool(replace(program, theta=not_above(reached, shape[1:]) * 1.05).uncertain(leads).any())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("late", [0.0, 2.0**-6])
def test_nothing_wrong_is_proved_where_leads_lie_around_the_mark_and_weights_are_few_steps(dtype, late):
    """Integers times binary fractions, so that float64 has no rounding errors; many are rounded by almost a step."""
    generator = torch.Generator().manual_seed(0)

    def drawn_from(values, *size):
        return torch.tensor(values, dtype=torch.float64)[torch.randint(len(values), size, generator=generator)]

    for inputs in [2, 3, 5, 8, 21] * 12:
        leads = drawn_from([0, 0.002, 0.019, 0.021, 0.021, 0.06, 1], inputs) * (
            0.9 + 0.1 * torch.rand(inputs, generator=generator)
        )
        leads = (leads * 2**20).round() / 2**20 - late
        weight = drawn_from([-254, -253, -127, -2, -1, 0, 1, 2, 127, 253, 254], 300, inputs) * 64 + drawn_from(
            [0, 1, 32, 63], 300, inputs
        )
        alpha = drawn_from([0, 1, 100, 10_000], 300)
        ends = leads.new_tensor([1.0, min(0.0, float(leads.min()))])
        times = torch.cat([leads, ends])  # V is a straight line between
        course = alpha * (1 - times[:, None]).clamp(min=0) + (leads - times[:, None]).clamp(min=0) @ weight.T
        nothing = torch.zeros(300, dtype=torch.float64)
        synapses = nn.Linear(inputs, 300, bias=False)
        reached = course.amax(0).clamp(min=0)
        layer = LayerProgram("layer", synapses, weight.to(dtype), alpha, nothing + 1, nothing, reached, 1.0, 1.0)
        assert_nothing_proved(layer, leads[None].to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_padding_excites_until_the_last_input(dtype):
    """Excitation alone: the potential is largest at the last input, to which padding, an input at t_min, adds everywhere."""
    conv = nn.Conv2d(5, 3, 3, padding=1, bias=False)
    program, leads = drawn(conv, (5, 6, 6), 1, 0, 0, negative=False, dtype=dtype)
    leads = leads - 0.3
    late = -float(leads.min())
    whole = nn.functional.pad(leads.double() + late, (1, 1, 1, 1), value=late)
    reached = program.alpha * (program.source_length + late) + nn.functional.conv2d(whole, program.weight.double())[0]
    assert bool(replace(program, theta=reached * (1 - 1e-12)).uncertain(leads).all())
    assert not bool(replace(program, theta=reached * 1.05).uncertain(leads).any())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_widest_sums_of_integers_do_not_overflow(dtype):
    program, leads = drawn(nn.Linear(bounds.LARGEST, 2, bias=False), (bounds.LARGEST,), 0, 0, 0, dtype=dtype)
    program = replace(program, weight=torch.ones_like(program.weight), alpha=torch.zeros(2).double())
    reached = torch.full((2,), float(bounds.LARGEST), dtype=torch.float64)
    assert bool(replace(program, theta=reached).uncertain(torch.ones_like(leads)).all())
    assert not bool(replace(program, theta=reached * 1.05).uncertain(torch.ones_like(leads)).any())


def test_a_lead_too_small_for_the_step_of_its_image_is_not_lost():
    """It is less than the smallest float32 times the largest lead, which excites nothing."""
    program, leads = drawn(nn.Linear(2, 1, bias=False), (2,), 0, 0, 0)
    weight, leads[0, 0], leads[0, 1] = torch.tensor([[0.0, 1.0]], dtype=torch.float64), 1.0, 2.0**-160
    at = replace(program, weight=weight, alpha=torch.zeros(1).double(), theta=leads[0, 1:])
    assert bool(at.uncertain(leads).all())


@given(CONV, NARROW, st.integers(0, 99), st.sampled_from([-30, 0, 30]))
def test_all_is_proved_that_float32_tells_apart(conv, size, seed, exponent):
    """Thresholds above the bound by no more than its error bound, for several images, three times with the same result."""
    program, leads = drawn(conv, (conv.in_channels, *size), seed, exponent, -exponent, negative=False, images=3)
    bound = program.alpha * program.source_length + program.drive(leads)
    near = 3 * (program.weight[0].numel() + 20) * 2.0**-24
    for share, open_ in ((1 + near, False), (1 - 1e-12, True)):
        at = replace(program, theta=bound.amax(0) * share)
        results = [at.uncertain(leads) for _ in range(3)]
        assert all(torch.equal(result, results[0]) for result in results)
        assert bool((results[0].any(0) == open_).all())


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_the_proof_does_not_depend_on_the_precision_that_matrix_products_may_use(precision):
    """On many processors "medium" rounds the factors of float32 products to bfloat16."""
    program, leads = drawn(nn.Linear(300, 40, bias=False), (300,), 0, 0, 0, negative=False)
    bound = program.alpha * program.source_length + program.drive(leads)[0]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert bool(replace(program, theta=bound * (1 - 1e-12)).uncertain(leads).all())
        assert not bool(replace(program, theta=bound * (1 + 1e-4)).uncertain(leads).any())
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_lead_that_is_not_a_number_proves_nothing():
    program, leads = drawn(nn.Linear(30, 4, bias=False), (30,), 0, 0, 0)
    at = replace(program, theta=torch.full((4,), 1e9, dtype=torch.float64))
    assert not bool(at.uncertain(leads).any())
    for value in (torch.nan, torch.inf):
        leads[0, 3] = value
        assert bool(at.uncertain(leads).all())
