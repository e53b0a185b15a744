"""The iterative LIF neuron: golden traces, closed forms, and its gradient by hand."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from respike.errors import InputError
from respike.neurons.lif import LIF, fire
from respike.neurons.surrogate import Rectangle, Sigmoid

CURRENTS = st.lists(st.integers(-64, 64), min_size=1, max_size=20).map(lambda values: [v / 32 for v in values])
NEURONS = st.builds(
    LIF,
    v_th=st.sampled_from([0.25, 0.5, 1.0]),
    tau=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    reset=st.sampled_from(["zero", "subtract"]),
    detach_reset=st.booleans(),
)


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def trace(neuron, currents):
    """Potentials and spikes, step by step."""
    state, found = neuron.initial(column(currents)[0]), []
    for x in column(currents):
        state = neuron.step(x, state)
        found.append((float(state.potential), int(state.spikes)))
    return found


def test_golden_traces():
    """By hand: v_th = 1/2, tau = 1/4; 0.5 is at the threshold and does not fire."""
    currents = [0.375, 0.375, 0.5, 0.5, -0.25, 1.0, 1.0]
    hard = [(0.375, 0), (0.46875, 0), (0.6171875, 1), (0.5, 0), (-0.125, 0), (0.96875, 1), (1.0, 1)]
    assert trace(LIF(v_th=0.5), currents) == hard
    soft = [(0.375, 0), (0.46875, 0), (0.6171875, 1), (0.529296875, 1), (-0.24267578125, 0), (0.9393310546875, 1)]
    assert trace(LIF(v_th=0.5, reset="subtract"), currents)[:6] == soft


@pytest.mark.parametrize("tau", [Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(1)])
def test_a_constant_current_fires_at_equal_intervals(tau):
    """k steps after a reset u = x (1 + tau + ... + tau^(k-1)); the interval is the first k at which that exceeds v_th."""
    steps = 24
    neuron = LIF(v_th=1.0, tau=float(tau))
    for x in (Fraction(p, 16) for p in range(-4, 40)):
        sums = [x * sum(tau**i for i in range(k)) for k in range(1, steps + 1)]
        interval = next((k for k, u in enumerate(sums, start=1) if u > 1), None)
        spikes, _ = neuron.scan(column([float(x)] * steps))
        expected = [1 if interval and t % interval == 0 else 0 for t in range(1, steps + 1)]
        assert spikes.flatten().tolist() == expected, x
        if tau == 1 and x > 0:  # then it is the hard reset, fires above, of the integrate-and-fire neuron
            assert sum(expected) == steps // (math.floor(1 / x) + 1)


@given(CURRENTS, NEURONS)
def test_it_is_spikingjellys_neuron_up_to_what_happens_at_the_threshold(currents, neuron):
    """LIFNode(tau=1/(1-tau), decay_input=False): h = v - (v - v_reset) / tau + x, and the reset at once, v_reset=0 or None."""
    v, expected = Fraction(0), []
    for x in currents:
        h = v - v * (1 - Fraction(neuron.tau)) + Fraction(x)
        spike = h > Fraction(neuron.v_th)
        v = h * (1 - spike) if neuron.reset == "zero" else h - spike * Fraction(neuron.v_th)
        expected.append((float(h), int(spike)))
    assert trace(neuron, currents) == expected


@given(CURRENTS, NEURONS)
def test_steps_in_parts_are_as_steps_in_one_go(currents, neuron):
    x = column(currents)
    whole, last = neuron.scan(x)
    cut = len(currents) // 2
    first, state = neuron.scan(x[:cut]) if cut else (x[:0], None)
    second, end = neuron.scan(x[cut:], state=state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(*pair) for pair in zip(end, last, strict=True))


@given(CURRENTS, NEURONS, st.sampled_from([Rectangle(0.75), Rectangle(0.5, centre="zero"), Sigmoid(3.0)]))
def test_the_gradient_is_the_reverse_recursion(currents, neuron, surrogate):
    """d[t] = (g[t] + r[t] d[t+1]) h(u[t]) + k[t] d[t+1], the kept share k = tau (1 - o), or tau; r = -tau u, or -tau v_th."""
    neuron = LIF(neuron.v_th, neuron.tau, surrogate, neuron.reset, neuron.detach_reset)
    x = column(currents).requires_grad_()
    spikes, _ = neuron.scan(x)
    weights = torch.linspace(1, 2, len(currents), dtype=torch.float64)
    (spikes[:, 0] * weights).sum().backward()
    later, expected = 0.0, []
    for (u, o), g in reversed(list(zip(trace(neuron, currents), weights.tolist(), strict=True))):
        h = float(surrogate(torch.tensor(u, dtype=torch.float64), neuron.v_th))
        hard = neuron.reset == "zero"
        through_reset = 0 if neuron.detach_reset else -neuron.tau * (u if hard else neuron.v_th)
        later = (g + through_reset * later) * h + neuron.tau * (1 - o * hard) * later
        expected.insert(0, later)
    torch.testing.assert_close(x.grad.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_a_spike_has_the_dtype_of_its_potential_and_fires_strictly_above():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        u = torch.tensor([0.0, 0.5, 0.5 + 2**-7], dtype=dtype)
        spikes = fire(u, 0.5, Rectangle())
        assert spikes.dtype == dtype and spikes.tolist() == [0, 0, 1]


def test_a_fresh_state_is_at_rest():
    state = LIF().initial(torch.ones(2))
    assert state.potential.tolist() == state.spikes.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"v_th": 0}, r"neuron\.v_th=0: .* neuron\.v_th=0\.4"),
        ({"v_th": -1.0}, r"v_th=-1"),
        ({"v_th": math.nan}, r"v_th=nan"),
        ({"tau": 1.5}, r"neuron\.tau=1\.5: .* neuron\.tau=0\.25"),
        ({"reset": "half"}, r"reset=half.*zero or neuron\.reset=subtract"),
    ],
)
def test_nonsense_is_refused_in_one_line(wrong, line):
    with pytest.raises(InputError, match=line):
        LIF(**wrong)
