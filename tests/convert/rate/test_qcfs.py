"""convert=qcfs: scales are thresholds, the first layer equals its activation at T = L, the output tends to the clipped net."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from respike.convert import exact_map, percentile_norm, qcfs_thresholds
from respike.convert.graph.trace import read_graph
from respike.convert.rate.wiring import build_rate_snn
from respike.errors import InputError
from respike.metrics.representation import unevenness_metrics
from respike.networks.qcfs import QCFS
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.input import encoded_input, largest_current
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.stepwise import mean_rates, simulate_stepwise

SOFT = IntegrateFire(reset="subtract", start=0.5)


def drawn(levels, thetas, seed):
    """A network of two convolutions, an average pool and a linear layer in float64, and images."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        QCFS(levels, thetas[0]),
        nn.Conv2d(4, 3, 3, padding=1),
        QCFS(levels, thetas[1]),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    return net.double().eval(), torch.rand(6, 1, 6, 6).double()


@settings(max_examples=8, deadline=None)
@given(levels=st.integers(1, 8), thetas=st.tuples(*[st.floats(0.2, 2)] * 2), seed=st.integers(0, 99))
def test_the_first_layer_equals_its_activation_after_as_many_steps_as_levels(levels, thetas, seed):
    net, x = drawn(levels, thetas, seed)
    snn = qcfs_thresholds(net, x)
    first, second = (net[index].theta.item() for index in (2, 4))
    rates = mean_rates(snn, x, encode=Current(), neuron=SOFT, dt=0.001, duration=0.001 * levels)
    layers = list(snn.layers)
    assert [snn.scales[layer] for layer in layers[:2]] == pytest.approx([first, second])
    torch.testing.assert_close(rates[layers[0]].double() * first, net[:3](x).detach())


def test_on_the_fixed_point_grid_the_first_layer_follows_the_closed_form_for_every_t():
    net, x = drawn(4, (0.7, 0.5), 2)
    snn, x = qcfs_thresholds(net, x).float(), x.float()
    first = next(iter(snn.layers))
    chosen = Settings(encode=Current(), neuron=SOFT, dt=0.001, duration=0.009, weight_bits=16)
    keywords = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
    record = simulate_stepwise(snn, x, **keywords, keep=True)
    spikes = torch.stack([trace.spikes[first] for trace in record.traces.values()], 1).double()  # (T, B, ...)
    program = compile_program(snn, x.shape[1:], chosen, largest_current(x, chosen))
    (current,) = encoded_input(program, chosen, x, torch.arange(len(x)), torch.tensor([0]))
    layer = program.layers[0]
    drive, theta = layer.drive({"input": current}).double(), float(layer.neuron.threshold)
    start = layer.neuron.initial(drive).potential.double()
    assert torch.equal(drive, drive.round()) and abs(float(start.max()) - theta / 2) <= 0.5  # whole numbers
    for t in range(1, chosen.steps + 1):
        assert torch.equal(spikes[:t].sum(0), ((t * drive + start) / theta).floor().clamp(0, t))


def test_the_mean_output_current_tends_to_the_clipped_network():
    net, x = drawn(4, (0.7, 0.5), 0)
    record = simulate(qcfs_thresholds(net, x), x, encode=Current(), neuron=SOFT, duration=2.0, weight_bits=None)
    clipped = nn.Sequential(*(nn.Hardtanh(0, m.theta.item()) if isinstance(m, QCFS) else m for m in net))
    torch.testing.assert_close(record.counts.double() / 2000, clipped(x).detach(), atol=5e-3, rtol=0)


def test_unevenness_is_the_share_of_units_that_differ_from_the_activation():
    net, x = drawn(4, (0.7, 0.5), 1)
    snn = qcfs_thresholds(net, x)
    graph = read_graph(net, input_shape=x.shape[1:])
    _, nodes, graph = build_rate_snn(graph, True, False, "count", "current", x.shape[1:])
    found = unevenness_metrics(snn, graph, nodes, x, encode=Current(), neuron=SOFT, dt=0.001, duration=0.01)
    layers = list(snn.layers)
    rates = mean_rates(snn, x, encode=Current(), neuron=SOFT, dt=0.001, duration=0.004)
    differ = (rates[layers[1]].double() * net[4].theta - net[:5](x)).abs() > 1e-6
    assert found[f"snn/unevenness/{layers[0]}"] == 0
    assert (
        found["snn/unevenness"] == found[f"snn/unevenness/{layers[1]}"] == pytest.approx(float(differ.double().mean()))
    )
    assert 0 < found["snn/unevenness"] < 1


def test_relus_and_thresholds_are_refused_by_name():
    net, x = drawn(4, (0.7, 0.5), 0)
    with pytest.raises(InputError, match=r"trained threshold .*convert=qcfs"):
        percentile_norm(net, x)
    with pytest.raises(InputError, match="convert=qcfs"):
        exact_map(nn.Sequential(*net[:5], *net[6:7], nn.Linear(48, 3).double()), x)
    with pytest.raises(InputError, match=r"convert.readout=counts: .*convert.readout=current"):
        qcfs_thresholds(net, x, readout="counts")
    net[4] = nn.ReLU()
    with pytest.raises(InputError, match=r"a ReLU without a trained threshold; .*convert=percentile"):
        qcfs_thresholds(net, x)
    with pytest.raises(InputError, match=r"model.levels=0"):
        QCFS(0)
    with pytest.raises(InputError, match=r"model.threshold=-1.0"):
        QCFS(4, -1.0)
