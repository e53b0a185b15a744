"""A potential meets its threshold at the spike that the record holds, and not before; the output's is read as the logit."""

import pytest
import torch
from chains import chains
from hypothesis import given
from hypothesis import strategies as st

from respike.convert.exact.mapping import exact_map
from respike.errors import InputError, SilentLayer
from respike.neurons.ttfs import potential_course
from respike.simulate.ttfs import simulate_ttfs
from respike.simulate.ttfs.potentials import potentials


def test_corners_of_a_potential_worked_out_by_hand():
    """Slopes 1 from 0, 3 from 1, -1 from 2; the input at 9 comes after the end."""
    arrivals, jumps = torch.tensor([[2, 9, 0, 1], [-4, 7, 1, 2]]).double()
    times, values = potential_course(arrivals, jumps, 4.0)
    assert times.tolist() == [0, 1, 2, 4]
    assert values.tolist() == [0, 1, 4, 2]


def at(course, time):
    """V at a time within the course."""
    k = int((course.times <= time).sum()) - 1
    if k == len(course.times) - 1:
        return float(course.values[k])
    (t0, t1), (v0, v1) = course.times[k : k + 2].tolist(), course.values[k : k + 2].tolist()
    return v0 if t1 == t0 else v0 + (v1 - v0) * (time - t0) / (t1 - t0)


@given(chains(), st.sampled_from([-0.6, 0.0, 0.5]), st.sampled_from([{}, {"alpha_noise": 0.1, "weight_noise": 0.1}]))
def test_v_reaches_theta_at_the_recorded_spike_and_the_logit_at_the_reading(case, zeta, noise):
    net, images, input_range = case
    try:
        snn = exact_map(net, images, zeta=zeta, input_range=input_range)
    except SilentLayer:
        return
    record = simulate_ttfs(snn, images[:1], trace=[0], **noise)
    spikes = record.spike_times[0]
    *hidden, output = snn.layers
    for name in hidden:
        layer, count = snn.layers[name], spikes[name].numel()
        for course in potentials(snn, name, spikes, range(0, count, 1 + count // 12), **noise):
            near = 1e-9 * float(course.values.abs().max().clamp(min=1))
            before = course.values[course.times < course.spike - 1e-9]
            assert course.theta <= near or bool((before < course.theta + near).all())
            if course.spike - float(course.times[0]) > 1e-6 and course.spike < float(layer.t_max) - 1e-9:
                assert at(course, course.spike) == pytest.approx(course.theta, rel=0, abs=near)
    read = potentials(snn, output, spikes, range(record.logits.shape[1]), **noise)
    voltages = torch.stack([course.values[-1] for course in read])
    voltages = voltages.clamp(min=0) if snn.output.rectified else voltages
    torch.testing.assert_close(voltages, record.logits[0], rtol=1e-9, atol=1e-9)
    assert all(course.theta is None and course.times[-1] == snn.latency for course in read)


def test_a_neuron_or_layer_that_is_not_there_is_named():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    net[1].weight.data.abs_()
    images = torch.rand(5, 1, 2, 2)
    snn = exact_map(net, images)
    spikes = simulate_ttfs(snn, images, trace=[0]).spike_times[0]
    with pytest.raises(InputError, match="choose from 0 to 2"):
        potentials(snn, next(iter(snn.layers)), spikes, [3])
    with pytest.raises(InputError, match="choose one of"):
        potentials(snn, "nowhere", spikes, [0])
