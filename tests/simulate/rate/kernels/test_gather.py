"""Convolutions summed output by output give the spikes of torch's float64 convolution, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from respike.convert import no_norm
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.kernels import event_layer
from respike.system import compiler

pytestmark = pytest.mark.skipif(compiler.library(event_layer.SOURCE) is None, reason="no C compiler on this machine")


@pytest.fixture(scope="module", autouse=True)
def every_convolution_is_gathered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(event_layer.FLAGS, False, ("-DGATHER_FROM=0",))
        event_layer.events_library.cache_clear()
        yield
    event_layer.events_library.cache_clear()


def pair(largest, least=1):
    return st.tuples(st.integers(least, largest), st.integers(least, largest))


@hypothesis_settings(max_examples=20)
@given(
    st.integers(0, 99), pair(4), pair(3), pair(2, 0), pair(2), st.one_of(st.none(), pair(2)),
    st.sampled_from([1, 5, 17]), st.sampled_from([1, 16, 17, 40, 64, 70, 130]),
)  # fmt: skip
def test_any_convolution(assert_same_record, seed, kernel, stride, padding, dilation, pool, maps, outputs):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, maps, 1), nn.ReLU())
    if pool is not None:
        net.append(nn.AvgPool2d(pool))
    net.append(nn.Conv2d(maps, outputs, kernel, stride, padding, dilation, bias=bool(seed % 2)))
    net.append(nn.ReLU()).append(nn.Flatten())
    net.append(nn.Linear(net(torch.zeros(1, 2, 15, 14)).shape[1], 4))
    snn, images = no_norm(net), torch.rand(2, 2, 15, 14)
    chosen = {"weight_bits": 16, "duration": 0.005, "neuron": IntegrateFire(0.1), "seed": seed}
    assert_same_record(
        simulate(snn, images, backend="events", **chosen), simulate(snn, images, backend="torch", **chosen)
    )


def test_a_layer_of_more_than_65536_neurons_and_branches(assert_same_record):
    net = no_norm(
        nn.Sequential(
            nn.Conv2d(1, 20, 3), nn.ReLU(), nn.Conv2d(20, 3, 3, 2), nn.ReLU(), nn.AvgPool2d(21), nn.Conv2d(3, 2, 1)
        )
    )
    images = torch.rand(1, 1, 50, 88)
    chosen = {"duration": 0.004, "neuron": IntegrateFire(0.2)}
    assert_same_record(
        simulate(net, images, backend="events", **chosen), simulate(net, images, backend="torch", **chosen)
    )
