"""Settings: time, refractory periods, refusals in the words of the yaml."""

import warnings

import pytest
import torch
from torch import nn

from respike.convert import no_norm
from respike.errors import InputError
from respike.neurons.encode import Current, Rate, Threshold
from respike.simulate import simulate
from respike.simulate.rate.settings import Settings

NAN = float("nan")
BAD = {
    "dt": [0, -0.001, NAN],
    "duration": [0, -0.04, 0.0009, NAN],
    "weight_bits": [0, 1, 25, -8],
    "read_from": [-1, 40, 100],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_its_yaml_name(key, value):
    with pytest.raises(InputError, match=rf"simulate\.{key}=") as error:
        Settings(**{key: value})
    assert "\n" not in str(error.value) and str(value) in str(error.value)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"threshold": 0.5}, r"neuron\.threshold=0\.5; in Python neuron=IntegrateFire\(threshold=0\.5\)"),
        ({"strict": True}, r"neuron\.fire_above=True"),
        ({"durations": 1}, r"simulate\.durations=1: unknown setting; choose from encode, neuron, dt, duration"),
    ],
)
def test_an_unknown_keyword_is_refused_and_a_moved_one_is_answered(draw_snn, given, line):
    snn, images = draw_snn("fc")
    with pytest.raises(InputError, match=line):
        simulate(snn, images, **given)


DURATIONS = [(0.001, 0.04, 40), (0.001, 0.001, 1), (0.0005, 0.04, 80), (0.1, 0.3, 3), (0.0001, 0.5, 5000)]


@pytest.mark.parametrize(("dt", "duration", "steps"), DURATIONS)
def test_time_runs_from_dt_to_the_duration(dt, duration, steps):
    settings = Settings(dt=dt, duration=duration)
    assert settings.steps == steps
    assert settings.times_ms.tolist() == pytest.approx([dt * 1000 * (t + 1) for t in range(steps)])


def test_time_may_start_at_zero_as_in_the_authors_cnn_loop():
    """t = 0, dt, .. duration: 41 steps for 40 ms."""
    settings = Settings(dt=0.001, duration=0.04, start_at_zero=True)
    assert settings.steps == 41
    assert settings.times_ms.tolist() == pytest.approx(list(range(41)))


@pytest.mark.parametrize("neuron", [None, "lif", {"threshold": 1}])
def test_something_else_than_a_neuron_is_refused(neuron):
    with pytest.raises(InputError, match=r"neuron=.*neuron=integrate_fire or neuron=lif"):
        Settings(neuron=neuron)


@pytest.mark.parametrize("encode", [Rate(2000.0), Threshold(0.5)])
def test_an_input_that_cannot_spike_often_enough_warns_and_says_what_to_lower(encode):
    snn = no_norm(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    with pytest.warns(UserWarning, match=r"saturates.*2 times per step of 0\.001 s.*encode\.max_rate or simulate\.dt"):
        simulate(snn, torch.rand(2, 1, 2, 2), encode=encode, duration=0.002)


@pytest.mark.parametrize(
    ("encode", "dt"), [(Rate(1000.0), 0.001), (Rate(2000.0), 0.0005), (Threshold(1.0), 0.001), (Current(3.0), 0.001)]
)
def test_an_input_that_can_does_not_warn(encode, dt):
    snn = no_norm(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = simulate(snn, torch.rand(2, 1, 2, 2), duration=0.002, encode=encode, dt=dt)
    assert record.steps == 0.002 / dt
