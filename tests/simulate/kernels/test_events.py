"""The compiled simulation gives the spikes of the plain one, bit for bit, or steps aside."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from respike.convert import no_norm
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current
from respike.simulate import simulate
from respike.simulate.kernels import compiler, events
from respike.simulate.settings import Settings

needs_compiler = pytest.mark.skipif(compiler.library("events") is None, reason="no C compiler on this machine")


def settings_of(**chosen):
    return Settings(**({"weight_bits": 16, "duration": 0.012} | chosen))


def runs(snn, shape, **chosen):
    settings = settings_of(**chosen)
    return events.runnable(settings.compile(snn, torch.Size(shape)), settings)


@needs_compiler
def test_it_runs_the_published_networks_and_leaves_the_rest_to_plain_torch(draw_snn):
    assert runs(no_norm(MLP([784, 1200, 1200, 10])), (1, 28, 28))
    assert runs(no_norm(DiehlCNN()), (1, 28, 28), start_at_zero=True, drop_first_output=True)
    for settings in ({"weight_bits": None}, {"weight_bits": 24}, {"encode": Current()}, {"backend": "torch"}):
        assert not runs(no_norm(MLP([784, 20, 10])), (1, 28, 28), **settings)
    assert not runs(draw_snn("projection")[0], (2, 5, 6))


@needs_compiler
def test_sums_that_could_leave_32_bits_are_left_to_plain_torch():
    snn = no_norm(MLP([4000, 10]))
    snn.layers["linear1"].synapses[0].weighted.weight.fill_(1)
    assert runs(snn, (1, 40, 100), duration=0.031)
    assert not runs(snn, (1, 40, 100), duration=0.033)


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
    chosen = {"weight_bits": 12, "duration": 0.009, "threshold": 0.3, "seed": seed}
    assert runs(snn, (2, 11, 13), **chosen)
    assert_same_record(simulate(snn, images, **chosen), simulate(snn, images, backend="torch", **chosen))


@needs_compiler
def test_no_cut_and_no_number_of_threads_changes_a_spike(assert_same_record):
    torch.manual_seed(0)
    snn, images = no_norm(MLP([784, 300, 130, 10])), torch.rand(61, 1, 28, 28)
    chosen = {"weight_bits": 16, "duration": 0.02, "threshold": 0.05}
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
    assert sum("same result" in record.message for record in caplog.records) == 1
