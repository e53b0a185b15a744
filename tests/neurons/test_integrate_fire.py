"""Spike counts in closed form, on integers: drive 2p and threshold 2q stand for a drive p/q at threshold 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from respike.errors import InputError
from respike.neurons.integrate_fire import IntegrateFire

STEPS = 48


def ceil_div(a, b):
    return -(-a // b)


def clip(count, steps):
    return min(max(count, 0), steps)


# rule: (neuron, start as a share of the threshold, spikes within T steps of a constant drive p/q)
RULES = {
    "soft, at": ({"reset": "subtract"}, 0, lambda p, q, T: clip(T * p // q, T)),
    "soft, at, from half": ({"reset": "subtract"}, 0.5, lambda p, q, T: clip((2 * T * p + q) // (2 * q), T)),
    "soft, above": ({"reset": "subtract", "strict": True}, 0, lambda p, q, T: clip(ceil_div(T * p, q) - 1, T)),
    "hard, at": ({"reset": "zero"}, 0, lambda p, q, T: T // max(1, ceil_div(q, p)) if p > 0 else 0),
    "hard, above": ({"reset": "zero", "strict": True}, 0, lambda p, q, T: T // (q // p + 1) if p > 0 else 0),
}


def integers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES)
def test_spike_count_of_a_constant_drive_follows_the_closed_form(rule):
    neuron, start, law = RULES[rule]
    for q in range(1, 25):
        numerators = list(range(-q, 3 * q + 1))
        cell = IntegrateFire(threshold=2.0 * q, start=start * 2 * q, **neuron)
        counts = cell.scan(2 * integers(numerators), STEPS).cumsum(0).tolist()
        expected = [[law(p, q, T) for p in numerators] for T in range(1, STEPS + 1)]
        assert counts == expected, f"threshold {q}"


@pytest.mark.parametrize("blocked", [0, 1, 2, 5])
def test_blocked_steps_lengthen_every_interval_of_a_hard_reset(blocked):
    """Charging takes ceil(q/p) steps; each spike but the first also waits for the blocked ones."""
    for q in range(1, 13):
        numerators = list(range(1, 2 * q + 1))
        counts = IntegrateFire(threshold=q, blocked_steps=blocked).scan(integers(numerators), STEPS).cumsum(0)
        for p, count in zip(numerators, counts.T.tolist(), strict=True):
            charging = ceil_div(q, p)
            assert count == [
                0 if charging > T else 1 + (T - charging) // (blocked + charging) for T in range(1, STEPS + 1)
            ]


@pytest.mark.parametrize("blocked", [1, 2, 5])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("strength", [2, 7])
def test_a_strong_drive_fires_as_soon_as_the_refractory_period_allows(reset, blocked, strength):
    spikes = IntegrateFire(reset=reset, blocked_steps=blocked).scan(integers([strength]), STEPS)
    assert spikes.nonzero()[:, 0].tolist() == list(range(0, STEPS, blocked + 1))


@given(
    st.lists(st.integers(-5, 12), min_size=2, max_size=40),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(["zero", "subtract"]),
)
def test_no_two_spikes_lie_closer_than_the_refractory_period(drive, threshold, blocked, reset):
    spikes = IntegrateFire(threshold=threshold, reset=reset, blocked_steps=blocked).scan(
        integers(*drive)[:, None], len(drive)
    )
    assert (spikes.nonzero()[:, 0].diff() > blocked).all()


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(1, 15), st.integers(-5, 4), st.booleans())
def test_a_soft_reset_loses_no_charge(drive, threshold, start, strict):
    """start + all drives = threshold x spikes + what is left."""
    drives = integers(*drive)
    neuron = IntegrateFire(threshold=threshold, reset="subtract", start=start, strict=strict)
    state, spikes, count = neuron.initial(drives[:1]), torch.empty(1, dtype=torch.float64), 0
    for value in drives:
        neuron.step(value[None], state, spikes)
        count += int(spikes)
    assert start + sum(drive) == threshold * count + int(state.v)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    st.integers(1, 15),
    st.booleans(),
    st.sampled_from(["zero", "subtract"]),
)
def test_it_fires_exactly_where_the_charged_potential_reaches_the_threshold(drive, threshold, strict, reset):
    neuron = IntegrateFire(threshold=threshold, reset=reset, strict=strict)
    drives = integers(*drive)[:, None]
    state, spikes, charged, before = neuron.initial(drives[0]), torch.empty(1).double(), torch.empty(1).double(), 0
    for value in drive:
        neuron.step(integers(value), state, spikes, charged)
        assert int(charged) == before + value
        assert bool(spikes) == (before + value > threshold if strict else before + value >= threshold)
        before = int(state.v)
        assert before == int(charged) - int(spikes) * (int(charged) if reset == "zero" else threshold)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30), st.integers(1, 15), st.sampled_from(["zero", "subtract"])
)
def test_only_the_ratio_of_drive_and_threshold_counts(drive, threshold, reset):
    drives = integers(*drive)[:, None]
    spikes = IntegrateFire(threshold, reset).scan(drives, len(drive))
    assert torch.equal(IntegrateFire(threshold / 8, reset).scan(drives / 8, len(drive)), spikes)


def test_a_drive_of_one_step_stands_for_the_same_drive_at_every_step():
    drive = integers([-1, 0, 1, 2, 3, 5, 8])
    neuron = IntegrateFire(threshold=4, reset="subtract", blocked_steps=1)
    assert torch.equal(neuron.scan(drive, 20), neuron.scan(drive.expand(20, -1), 20))


def test_a_scan_starts_afresh_and_does_not_look_ahead():
    drive = torch.randint(-3, 6, (30, 50), generator=torch.Generator().manual_seed(0)).double()
    neuron = IntegrateFire(threshold=4, blocked_steps=2)
    spikes, kept = neuron.scan(drive, 30), drive.clone()
    assert torch.equal(neuron.scan(drive, 30), spikes) and torch.equal(drive, kept)
    assert torch.equal(neuron.scan(drive[:11], 11), spikes[:11])


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan")])
def test_a_threshold_that_is_not_positive_is_refused(threshold):
    with pytest.raises(InputError, match=r"threshold=.*simulate\.threshold=1"):
        IntegrateFire(threshold=threshold)


def test_an_unknown_reset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"reset=half.*simulate\.reset=zero.*simulate\.reset=subtract"):
        IntegrateFire(reset="half")
