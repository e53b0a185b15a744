"""The compiled simulation gives the spikes of the plain one, bit for bit, or steps aside."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from respike.convert import no_norm
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate, Threshold
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.kernels import events
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.stepwise import simulate_stepwise
from respike.system import compiler

needs_compiler = pytest.mark.skipif(compiler.library(events.SOURCE) is None, reason="no C compiler on this machine")


def settings_of(**chosen):
    return Settings(**({"weight_bits": 16, "duration": 0.012} | chosen))


def runs(snn, shape, **chosen):
    settings = settings_of(**chosen)
    return events.is_selected(compile_program(snn, torch.Size(shape), settings), settings)


@needs_compiler
def test_it_runs_the_published_networks_and_leaves_the_rest_to_plain_torch():
    for settings in ({}, {"weight_bits": 24}, {"encode": Current()}, {"neuron": IntegrateFire(t_ref=0.002)}):
        assert runs(no_norm(MLP([784, 1200, 1200, 10])), (1, 28, 28), **settings)
    assert runs(no_norm(DiehlCNN()), (1, 28, 28), start_at_zero=True, drop_first_output=True)
    for settings in ({"weight_bits": None}, {"backend": "torch"}):
        assert not runs(no_norm(MLP([784, 20, 10])), (1, 28, 28), **settings)
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    assert not runs(no_norm(grouped), (2, 5, 5))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"weight_bits": None}, "fixed point only"), ({}, "does not support the connections of layer 'conv1'")],
)
def test_a_backend_that_is_asked_for_and_cannot_run_is_one_line_and_the_result_is_the_same(
    assert_same_record, caplog, settings, reason
):
    snn = no_norm(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)))
    images = torch.rand(4, 2, 5, 5)
    events._log_fallback.cache_clear()
    records = [simulate(snn, images, backend="events", **settings) for _ in range(2)]
    assert [reason in record.message and "same result" in record.message for record in caplog.records] == [True]
    caplog.clear()
    assert_same_record(simulate(snn, images, **settings), records[0])
    assert not caplog.records


NEURONS = st.fixed_dictionaries(
    {
        "neuron": st.builds(
            IntegrateFire,
            threshold=st.sampled_from([0.3, 1.0, 1.7]),
            reset=st.sampled_from(["zero", "subtract"]),
            t_ref=st.sampled_from([0.0, 0.002, 0.005]),
            start=st.sampled_from([-0.5, 0.0, 0.5]),
            fire_above=st.booleans(),
        ),
        "drop_first_output": st.booleans(),
        "start_at_zero": st.booleans(),
        "weight_bits": st.sampled_from([2, 7, 16, 19, 24]),
        "encode": st.sampled_from([Rate(300.0), Rate(1000.0), Threshold(2.5), Current(0.8)]),
        "seed": st.sampled_from([0, 1, 2**40]),
    }
)


@needs_compiler
@given(st.integers(0, 9), st.booleans(), NEURONS, st.booleans())
def test_every_wiring_and_neuron_gives_the_spikes_of_the_reference(
    draw_snn, assert_same_record, is_accepted, wiring, seed, bias, chosen, spiking_pools
):
    snn, images = draw_snn(wiring, seed, bias, spiking_pools)
    chosen = chosen | {"duration": 0.009}
    assume(is_accepted(snn, images, chosen))
    index = torch.arange(len(images)) * 1009 + seed
    overlap = wiring == "cnn" and not spiking_pools  # a pool whose windows share pixels, in front of weights
    if wiring != "pools" and not overlap and chosen["weight_bits"] <= 16:
        assert runs(snn, images.shape[1:], **chosen)
    assert_same_record(
        simulate(snn, images, index=index, **chosen), simulate_stepwise(snn, images, index=index, **chosen)
    )


@needs_compiler
def test_sums_that_could_leave_32_bits_are_held_in_64(assert_same_record):
    snn, images = no_norm(MLP([4000, 10])), torch.ones(3, 1, 40, 100)
    weights = snn.layers["linear1"].synapses[0].weighted.weight
    weights.data.fill_(1)
    weights.data[3:] = -1
    for duration, wide in ((0.025, False), (0.026, True)):
        settings = settings_of(duration=duration, neuron=IntegrateFire(3999.5, "subtract", -5.0))
        program = compile_program(snn, torch.Size((1, 40, 100)), settings)
        assert events.is_selected(program, settings) and events.EventProgram(program, settings).wide == wide
        chosen = {"duration": duration, "neuron": settings.neuron}
        assert_same_record(simulate(snn, images, **chosen), simulate(snn, images, backend="torch", **chosen))


GEOMETRY = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@needs_compiler
@given(st.integers(0, 99), GEOMETRY, st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 5, 16, 17, 40]))
def test_any_convolution_and_pool(assert_same_record, seed, geometry, pool, pool_stride, maps):
    kernel, stride, padding, dilation = geometry
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, maps, kernel, stride, padding, dilation, bias=bool(seed % 2))
    net = nn.Sequential(
        conv, nn.ReLU(), nn.AvgPool2d(pool, pool_stride), nn.Conv2d(maps, 3, 1), nn.ReLU(), nn.Flatten()
    )
    net(torch.zeros(1, 2, 11, 13))
    net.append(nn.Linear(net(torch.zeros(1, 2, 11, 13)).shape[1], 4))
    snn, images = no_norm(net), torch.rand(11, 2, 11, 13)
    chosen = {"weight_bits": 12, "duration": 0.009, "neuron": IntegrateFire(0.3), "seed": seed}
    assert runs(snn, (2, 11, 13), **chosen)
    assert_same_record(simulate(snn, images, **chosen), simulate(snn, images, backend="torch", **chosen))


@needs_compiler
def test_no_cut_and_no_number_of_threads_changes_a_spike(assert_same_record):
    torch.manual_seed(0)
    snn, images = no_norm(MLP([784, 300, 130, 10])), torch.rand(61, 1, 28, 28)
    chosen = {"weight_bits": 16, "duration": 0.02, "neuron": IntegrateFire(0.05)}
    whole = simulate(snn, images, **chosen)
    assert int(whole.counts.sum()) > 0
    before = torch.get_num_threads()
    try:
        for threads, chunk in ((1, 61), (2, 7), (3, 1), (5, 60)):
            torch.set_num_threads(threads)
            assert_same_record(simulate(snn, images, chunk=chunk, **chosen), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("broken", ["absent", "failing"])
def test_without_a_compiler_the_result_is_the_same_and_one_line_says_so(
    assert_same_record, monkeypatch, caplog, tmp_path, broken
):
    snn, images = no_norm(MLP([784, 20, 10])), torch.rand(5, 1, 28, 28)
    expected = simulate(snn, images, weight_bits=16, backend="torch")
    compiler.library.cache_clear()
    compiler._compiler.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if broken == "absent":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CC", "false")
    try:
        assert_same_record(simulate(snn, images, weight_bits=16), expected)
        simulate(snn, images, weight_bits=16)
    finally:
        compiler.library.cache_clear()
        compiler._compiler.cache_clear()
    assert sum("same result" in record.message for record in caplog.records) == 1
