"""Layer by layer equals step by step, spike for spike, on the fixed-point grid; traces obey the neuron's equations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.signal import correlate2d
from torch import nn

from respike.convert import data_norm, no_norm
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate, Threshold
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate, simulate_stepwise
from respike.simulate.rate.stepwise import mean_rates

ENCODINGS = st.one_of(
    st.floats(50, 1000).map(Rate), st.floats(1, 6).map(Threshold), st.sampled_from([0.5, 1.0, 1.75]).map(Current)
)
SETTINGS = st.fixed_dictionaries(
    {
        "encode": ENCODINGS,
        "neuron": st.builds(
            IntegrateFire,
            threshold=st.sampled_from([0.25, 0.7, 1.0, 1.9]),
            reset=st.sampled_from(["zero", "subtract"]),
            t_ref=st.sampled_from([0, 0.001, 0.002, 0.0035]),
            start=st.sampled_from([0, 0.5, -0.4, 0.99]),
            fire_above=st.booleans(),
        ),
        "start_at_zero": st.booleans(),
        "drop_first_output": st.booleans(),
        "weight_bits": st.sampled_from([2, 5, 8, 16]),
        "duration": st.sampled_from([0.001, 0.006, 0.011]),
        "read_from": st.sampled_from([0, 0, 2, 5, 10]),
        "seed": st.integers(0, 2**33),
    }
)


@hypothesis_settings(max_examples=12)  # of each wiring
@given(st.integers(0, 50), st.booleans(), st.booleans(), SETTINGS, st.integers(1, 7))
def test_layer_by_layer_equals_step_by_step(
    draw_snn, assert_same_record, is_accepted, wiring, seed, bias, spiking_pools, settings, chunk
):
    snn, images = draw_snn(wiring, seed, bias, spiking_pools)
    settings["read_from"] = min(settings["read_from"], round(settings["duration"] * 1000) - 1)
    assume(is_accepted(snn, images, settings))
    index = torch.tensor([7, 0, 12345, 3, 59_999, 4])
    whole = simulate_stepwise(snn, images, index=index, **settings)
    for backend in ("auto", "torch"):
        assert_same_record(simulate(snn, images, index=index, chunk=chunk, backend=backend, **settings), whole)
    assert whole.steps == round(settings["duration"] * 1000) + settings["start_at_zero"]


def authors_loop(net, image_spikes, threshold, reset, t_ref, dt):
    """The published simulation in plain NumPy, one image: v += W s; s = v >= threshold; reset. Output spikes (T, ...)."""
    state, output = {}, []
    for t, s in enumerate(image_spikes):
        for i, layer in enumerate(net):
            if isinstance(layer, nn.Flatten):
                s = s.ravel()
                continue
            if isinstance(layer, nn.ReLU):
                continue
            drive = DRIVES[type(layer)](layer, s)
            v, free_at = state.get(i, (np.zeros_like(drive), np.zeros_like(drive)))
            v = v + np.where(free_at > t * dt + 1e-9, 0, drive)
            s = (v >= threshold).astype(float)
            v = np.where(s > 0, 0 if reset == "zero" else v - threshold, v)
            state[i] = v, np.where(s > 0, t * dt + t_ref, free_at)
        output.append(s)
    return np.stack(output)


def correlated(layer, s):
    """A convolution without padding, map by map."""
    kernels = layer.weight.detach().numpy()
    return np.stack([sum(correlate2d(m, k, "valid") for m, k in zip(s, row, strict=True)) for row in kernels])


DRIVES = {
    nn.Linear: lambda layer, s: layer.weight.detach().numpy() @ s,
    nn.Conv2d: correlated,
    nn.AvgPool2d: lambda layer, s: s.reshape(len(s), s.shape[1] // 2, 2, s.shape[2] // 2, 2).mean((2, 4)),
}


@pytest.mark.parametrize(
    ("reset", "t_ref", "threshold"), [("zero", 0, 1.0), ("zero", 0, 0.625), ("zero", 0.003, 1.0), ("subtract", 0, 1.0)]
)
@pytest.mark.parametrize("net", ["fc", "cnn"])
def test_it_is_the_published_simulation_in_plain_numpy(net, reset, t_ref, threshold):
    """Weights are multiples of 1/64, so that sums and means over four are exact in float64, in any order."""
    torch.manual_seed(0)
    net = (MLP([196, 20, 15, 5]) if net == "fc" else DiehlCNN([3, 4], 3, input_shape=[1, 14, 14], classes=5)).double()
    for weight in net.parameters():
        fan_in = weight[0].numel()
        weight.data = ((torch.randn_like(weight) / fan_in**0.5 + 0.5 / fan_in) * 64).round() / 64
    images = torch.rand(4, 1, 14, 14)
    settings = {"neuron": IntegrateFire(threshold, reset, t_ref=t_ref), "duration": 0.02}
    record = simulate(no_norm(net), images, trace=range(4), **settings)
    for number, trace in record.traces.items():
        expected = authors_loop(net, trace.spikes["input"].numpy(), threshold, reset, t_ref, 0.001)
        assert np.array_equal(trace.spikes[list(trace.spikes)[-1]], expected)
        assert record.counts[number].tolist() == expected.sum(0).tolist()
    assert 0 < record.counts.float().mean() < 15 and record.counts.float().std() > 0


class Joined(nn.Module):
    """Two paths from the same neurons meet in one sum."""

    def __init__(self, identity):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.identity = identity

    def forward(self, x):
        x = F.relu(self.conv1(x))
        return F.relu(self.conv2(x) + (x if self.identity else self.conv3(x)))


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("bits", [None, 8])
def test_two_synapses_may_come_from_one_layer(assert_same_record, identity, bits):
    torch.manual_seed(0)
    images = torch.rand(5, 1, 6, 6).double()
    snn = data_norm(Joined(identity).double(), images)
    settings = {"duration": 0.01, "weight_bits": bits}
    record = simulate_stepwise(snn, images, **settings)
    assert record.counts.sum() > 0
    assert_same_record(simulate(snn, images, **settings), record)


def traced(draw_snn, wiring, **settings):
    snn, images = draw_snn(wiring, 1)
    index = torch.tensor([5, 9, 2, 40, 7, 1])
    return snn, simulate(snn, images, index=index, trace=index.tolist(), weight_bits=8, duration=0.012, **settings)


@pytest.mark.parametrize("encode", [Rate(800.0), Current()])
def test_traces_add_up_to_the_record(draw_snn, wiring, encode):
    snn, record = traced(draw_snn, wiring, encode=encode)
    spikes = [record.traces[number].spikes for number in record.index.tolist()]
    output = torch.stack([trace[snn.output].flatten(1) for trace in spikes])  # (B, T, C)
    assert torch.equal(output.sum(1).int(), record.counts)
    for name in record.spikes:
        assert torch.equal(sum(trace[name].flatten(1).sum(1) for trace in spikes).long(), record.spikes[name])
    for b, counts in enumerate(output.cumsum(1).tolist()):
        assert record.predicted[:, b].tolist() == [step.index(max(step)) for step in counts]


@pytest.mark.parametrize("fire_above", [True, False])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("start", [0, 0.5])
def test_potentials_in_traces_charge_fire_and_reset(draw_snn, fire_above, reset, start):
    """v_t = reset(v_{t-1}) + drive_t in thresholds; a spike wherever v_t reaches 1 (exceeds it, with fire_above)."""
    neuron = IntegrateFire(0.5, reset, start, fire_above=fire_above)
    snn, record = traced(draw_snn, "cnn", encode=Rate(800.0), neuron=neuron)
    fired = 0
    for trace in record.traces.values():
        for name, layer in snn.layers.items():
            v, s = trace.potentials[name], trace.spikes[name]
            assert torch.equal(s.bool(), v > 1 if fire_above else v >= 1)
            fired += int(s.sum())
            after = torch.cat(
                [torch.full_like(v[:1], start), torch.where(s > 0, v - (v if reset == "zero" else 1), v)[:-1]]
            )
            drive = layer.drive({name: spikes.float() for name, spikes in trace.spikes.items()}) / 0.5
            assert (v - after - drive).abs().max() < 0.1  # the trace holds weights of 8 bits, `layer` the exact ones
    assert fired > 100


def test_only_the_images_asked_for_are_traced(draw_snn, assert_same_record):
    snn, images = draw_snn("fc")
    index = torch.tensor([10, 20, 30, 40, 50, 60])
    record = simulate(snn, images, index=index, trace=[50, 20], duration=0.005)
    assert sorted(record.traces) == [20, 50]
    assert_same_record(record, simulate(snn, images, index=index, duration=0.005))


@pytest.mark.parametrize("bias", [True, False])
def test_in_float32_few_spikes_differ_and_how_many_is_reported(draw_snn, wiring, bias, record_property):
    """Products differ with the number of rows, so that potentials at the threshold may fall on either side."""
    differing = predictions = spikes = total = 0
    for seed in range(3):
        snn, images = draw_snn(wiring, seed, bias)
        ours, reference = simulate(snn, images, chunk=2), simulate_stepwise(snn, images)
        differing += int((ours.predicted != reference.predicted).sum())
        predictions += reference.predicted.numel()
        spikes += sum(int((ours.spikes[name] - reference.spikes[name]).abs().sum()) for name in ours.spikes)
        total += sum(int(values.sum()) for values in reference.spikes.values())
    record_property("share of predictions that differ in float32", differing / predictions)
    record_property("share of spikes that differ in float32", spikes / total)
    assert differing <= 0.02 * predictions and spikes <= 0.002 * total


def test_an_output_of_maps_is_counted_neuron_by_neuron():
    torch.manual_seed(0)
    snn, images = no_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).double()), torch.rand(4, 1, 5, 5)
    record = simulate(snn, images, trace=range(4), duration=0.01, neuron=IntegrateFire(0.25))
    for b in range(4):
        assert record.counts[b].tolist() == record.traces[b].spikes["conv1"].sum(0).flatten().tolist()
    assert record.counts.sum() > 0


@pytest.mark.parametrize("encode", [Rate(), Current()])
def test_mean_rates_are_the_spikes_of_a_trace_over_the_steps(draw_snn, wiring, encode):
    snn, images = draw_snn(wiring)
    settings = {"encode": encode, "weight_bits": None}
    traces = simulate_stepwise(snn, images, keep=True, **settings).traces
    rates = mean_rates(snn, images, **settings)
    assert rates.keys() == snn.layers.keys()
    for b, trace in traces.items():
        for name, rate in rates.items():
            assert torch.allclose(rate[b], trace.spikes[name].mean(0))
