"""Spike counts in closed form, on integers: drive 2p and threshold 2q stand for a drive p/q at threshold 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from respike.errors import InputError
from respike.neurons.integrate_fire import FixedPointIntegrateFire, IntegrateFire
from respike.neurons.neuron import Neuron

STEPS = 48


def ceil_div(a, b):
    return -(-a // b)


def clip(count, steps):
    return min(max(count, 0), steps)


# rule: (neuron, start as a share of the threshold, spikes within T steps of a constant drive p/q)
RULES = {
    "soft, at": ({"reset": "subtract"}, 0, lambda p, q, T: clip(T * p // q, T)),
    "soft, at, from half": ({"reset": "subtract"}, 0.5, lambda p, q, T: clip((2 * T * p + q) // (2 * q), T)),
    "soft, above": ({"reset": "subtract", "fire_above": True}, 0, lambda p, q, T: clip(ceil_div(T * p, q) - 1, T)),
    "hard, at": ({"reset": "zero"}, 0, lambda p, q, T: T // max(1, ceil_div(q, p)) if p > 0 else 0),
    "hard, above": ({"reset": "zero", "fire_above": True}, 0, lambda p, q, T: T // (q // p + 1) if p > 0 else 0),
}


def integers(*values):
    return torch.tensor(values, dtype=torch.float64)


def refractory(blocked, **constants):
    """A neuron that ignores its input in this many steps after a spike, for steps of 1 s."""
    return IntegrateFire(t_ref=blocked + 1, dt=1, **constants)


@pytest.mark.parametrize("rule", RULES)
def test_spike_count_of_a_constant_drive_follows_the_closed_form(rule):
    neuron, start, law = RULES[rule]
    for q in range(1, 25):
        numerators = list(range(-q, 3 * q + 1))
        cell = IntegrateFire(threshold=2.0 * q, start=start, **neuron)
        spikes, _ = cell.scan(2 * integers(numerators), STEPS)
        counts = spikes.cumsum(0).tolist()
        expected = [[law(p, q, T) for p in numerators] for T in range(1, STEPS + 1)]
        assert counts == expected, f"threshold {q}"


@pytest.mark.parametrize("blocked", [0, 1, 2, 5])
def test_blocked_steps_lengthen_every_interval_of_a_hard_reset(blocked):
    """Charging takes ceil(q/p) steps; each spike but the first also waits for the blocked ones."""
    for q in range(1, 13):
        numerators = list(range(1, 2 * q + 1))
        spikes, _ = refractory(blocked, threshold=q).scan(integers(numerators), STEPS)
        counts = spikes.cumsum(0)
        for p, count in zip(numerators, counts.T.tolist(), strict=True):
            charging = ceil_div(q, p)
            assert count == [
                0 if charging > T else 1 + (T - charging) // (blocked + charging) for T in range(1, STEPS + 1)
            ]


@given(
    st.lists(st.integers(-5, 12), min_size=2, max_size=40),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from(["zero", "subtract"]),
)
def test_no_two_spikes_lie_closer_than_the_refractory_period(drive, threshold, blocked, reset):
    spikes, _ = refractory(blocked, threshold=threshold, reset=reset).scan(integers(*drive)[:, None])
    assert (spikes.nonzero()[:, 0].diff() > blocked).all()


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(1, 15), st.integers(-5, 4), st.booleans())
def test_a_soft_reset_loses_no_charge(drive, threshold, start, fire_above):
    """start + all drives = threshold x spikes + the potential that is left after the last reset."""
    neuron = FixedPointIntegrateFire(threshold, start, "subtract", fire_above, blocked_steps=0)
    spikes, state = neuron.scan(integers(*drive)[:, None])
    left = int(state.potential) - threshold * int(state.spikes)
    assert start + sum(drive) == threshold * int(spikes.sum()) + left


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    st.integers(1, 15),
    st.booleans(),
    st.sampled_from(["zero", "subtract"]),
)
def test_it_fires_exactly_where_the_charged_potential_reaches_the_threshold(drive, threshold, fire_above, reset):
    neuron = IntegrateFire(threshold=threshold, reset=reset, fire_above=fire_above)
    state, left = neuron.initial(torch.zeros(1).double()), 0
    for value in drive:
        state = neuron.step(integers(value), state)
        assert int(state.potential) == left + value
        assert bool(state.spikes) == (left + value > threshold if fire_above else left + value >= threshold)
        left = int(state.potential) - int(state.spikes) * (int(state.potential) if reset == "zero" else threshold)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30), st.integers(1, 15), st.sampled_from(["zero", "subtract"])
)
def test_only_the_ratio_of_drive_and_threshold_counts(drive, threshold, reset):
    drives = integers(*drive)[:, None]
    spikes, _ = IntegrateFire(threshold, reset).scan(drives)
    assert torch.equal(IntegrateFire(threshold / 8, reset).scan(drives / 8)[0], spikes)


NEURONS = st.builds(
    IntegrateFire,
    threshold=st.sampled_from([0.5, 1.0, 3.0]),
    reset=st.sampled_from(["zero", "subtract"]),
    start=st.sampled_from([0.0, 0.5, -0.25]),
    t_ref=st.sampled_from([0, 2, 3]),
    fire_above=st.booleans(),
    dt=st.just(1),
)


@given(
    st.lists(st.lists(st.integers(-3, 6), min_size=4, max_size=4), min_size=1, max_size=20), NEURONS, st.integers(0, 20)
)
def test_the_fast_scan_is_the_loop_over_steps_whole_or_in_parts(drive, neuron, cut):
    drives = integers(*drive)
    kept = drives.clone()
    spikes, last = neuron.scan(drives)
    looped, end = Neuron.scan(neuron, drives)
    assert torch.equal(spikes, looped) and same(last, end)
    if 0 < cut < len(drives):
        first, middle = neuron.scan(drives[:cut])
        before = [None if part is None else part.clone() for part in middle]
        second, end = neuron.scan(drives[cut:], state=middle)
        assert torch.equal(torch.cat([first, second]), spikes) and same(last, end)
        assert same(before, middle)  # a scan changes neither the state it is given
    assert torch.equal(drives, kept)  # nor the drive


def same(state, other):
    return all(a is b is None or torch.equal(a, b) for a, b in zip(state, other, strict=True))


def test_a_drive_of_one_step_stands_for_the_same_drive_at_every_step():
    drive = integers([-1, 0, 1, 2, 3, 5, 8])
    neuron = refractory(1, threshold=4, reset="subtract")
    assert torch.equal(neuron.scan(drive, 20)[0], neuron.scan(drive.expand(20, -1))[0])


def test_a_scan_does_not_look_ahead():
    drive = torch.randint(-3, 6, (30, 50), generator=torch.Generator().manual_seed(0)).double()
    neuron = refractory(2, threshold=4)
    spikes, _ = neuron.scan(drive)
    assert torch.equal(neuron.scan(drive[:11])[0], spikes[:11])


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("t_ref_us", [0, 400, 500, 1000, 1100, 2000, 3000, 4500])
@pytest.mark.parametrize("dt_us", [1000, 500, 100])
def test_under_a_strong_drive_spikes_lie_one_refractory_period_apart(reset, t_ref_us, dt_us):
    """max(1, ceil(t_ref / dt)) steps; computed here on whole microseconds."""
    neuron = IntegrateFire(t_ref=t_ref_us / 1e6, reset=reset).with_time_step(dt_us / 1e6)
    spikes, _ = neuron.scan(torch.full((1, 1), 2.0, dtype=torch.float64), 100)
    assert spikes.nonzero()[:, 0].tolist() == list(range(0, 100, max(1, -(-t_ref_us // dt_us))))


def test_a_refractory_period_needs_a_time_step():
    with pytest.raises(InputError, match=r"neuron\.t_ref=0\.002 needs a time step"):
        IntegrateFire(t_ref=0.002).initial(torch.zeros(1))


def test_the_start_is_a_share_of_the_threshold():
    assert IntegrateFire(threshold=3.0, start=0.5).start_potential == 1.5


@pytest.mark.parametrize("unit", [1.0, 7.0, 256.0])
def test_in_fixed_point_its_numbers_are_rounded_integers(unit):
    neuron = IntegrateFire(0.7, "subtract", -0.4, t_ref=0.003, fire_above=True, dt=0.001).fixed_point(unit)
    assert neuron == FixedPointIntegrateFire(max(1, round(0.7 * unit)), round(-0.4 * 0.7 * unit), "subtract", True, 2)
    assert neuron.fires_at == neuron.threshold + 1


NAN = float("nan")
BAD = {"threshold": [0, -1.0, NAN], "t_ref": [-0.001, NAN], "start": [1, 1.5, NAN], "reset": ["half", "", None]}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_its_yaml_name(key, value):
    with pytest.raises(InputError, match=rf"^neuron\.{key}={value}: .*neuron\.{key}=") as error:
        IntegrateFire(**{key: value})
    assert "\n" not in str(error.value)
