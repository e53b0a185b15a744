"""The Triton kernels give the spikes of the plain simulation, bit for bit, or step aside.

On a CUDA device where there is one; else in Triton's interpreter, which runs the same source on numpy, slowly.
"""

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from interpreted import DEVICE, kernels_of, needs
from torch import nn

from respike.convert import no_norm, percentile_norm
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate, Threshold
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate, simulate_stepwise
from respike.simulate.rate.kernels import triton_backend
from respike.simulate.rate.kernels.triton_backend import digits, needs_64_bits
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings

kernels = kernels_of(triton_backend)
needs_triton = needs(kernels)
few = hypothesis_settings(max_examples=3, phases=[Phase.explicit, Phase.generate])  # shrinking would take minutes


def plans(snn, shape, **chosen):
    settings = Settings(**({"weight_bits": 16, "duration": 0.012} | chosen))
    program = compile_program(snn, torch.Size(shape), settings)
    return {name: found.kind for name, found in triton_backend.TritonProgram(program, settings).plans.items()}


def assert_kernels_agree(assert_same_record, snn, images, chunk=None, **chosen):
    snn, images = snn.to(DEVICE), images.to(DEVICE)
    ours = simulate(snn, images, chunk=chunk, backend="triton", **chosen)
    assert_same_record(ours, simulate_stepwise(snn.cpu(), images.cpu(), **chosen))
    return ours


@needs_triton
def test_products_and_pools_of_the_published_networks_are_fused():
    assert set(plans(no_norm(MLP([784, 1200, 1200, 10])), (1, 28, 28)).values()) == {"product"}
    assert list(plans(no_norm(DiehlCNN()), (1, 28, 28)).values()) == ["product", "pool", "product", "pool", "product"]


NEURONS = st.fixed_dictionaries(
    {
        "neuron": st.builds(
            IntegrateFire,
            threshold=st.sampled_from([0.2, 0.4, 1.0]),
            reset=st.sampled_from(["zero", "subtract"]),
            t_ref=st.sampled_from([0.0, 0.002, 0.004]),
            start=st.sampled_from([0.0, 0.5, -0.25]),
            fire_above=st.booleans(),
        ),
        "drop_first_output": st.booleans(),
        "read_from": st.sampled_from([0, 2]),
        "weight_bits": st.integers(2, 24),
        "encode": st.sampled_from([Rate(700), Threshold(1.5), Current(0.7)]),
        "seed": st.integers(0, 2**40),
    }
)


@needs_triton
@few
@given(NEURONS, st.booleans(), st.sampled_from([None, 1, 2]))
@example({"weight_bits": 24, "neuron": IntegrateFire(0.2, "subtract", t_ref=0.003)}, True, 2)
def test_any_neuron_on_any_wiring(assert_same_record, draw_snn, is_accepted, wiring, neuron, bias, chunk):
    snn, images = draw_snn(wiring, neuron.get("seed", 0) % 7, bias)
    assume(is_accepted(snn, images, neuron))
    assert_kernels_agree(assert_same_record, snn, images[:3], chunk, duration=0.006, **neuron)


@needs_triton
@pytest.mark.parametrize(
    ("max_pool", "readout"), [("count", "current"), ("gate", "counts"), ("before_neuron", "current")]
)
def test_layers_without_neurons(assert_same_record, every_unit, max_pool, readout):
    net, images = every_unit()
    snn = percentile_norm(net, images, scale="channel", max_pool=max_pool, readout=readout)
    chosen = {"encode": Current(), "neuron": IntegrateFire(1.0, "subtract", start=0.5), "duration": 0.006}
    record = assert_kernels_agree(assert_same_record, snn, images[:2], weight_bits=14, drop_first_output=True, **chosen)
    assert record.counts.abs().sum() > 0


GEOMETRY = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@needs_triton
@few
@given(st.integers(0, 99), GEOMETRY, st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 5, 17]))
def test_any_convolution_and_pool(assert_same_record, seed, geometry, pool, pool_stride, maps):
    kernel, stride, padding, dilation = geometry
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, maps, kernel, stride, padding, dilation, bias=bool(seed % 2))
    net = nn.Sequential(
        conv, nn.ReLU(), nn.AvgPool2d(pool, pool_stride), nn.Conv2d(maps, 3, 1), nn.ReLU(), nn.Flatten()
    )
    net(torch.zeros(1, 2, 8, 9))
    net.append(nn.Linear(net(torch.zeros(1, 2, 8, 9)).shape[1], 4))
    snn, images = no_norm(net), torch.rand(2, 2, 8, 9)
    assert set(plans(snn, (2, 8, 9)).values()) == {"product", "pool"}
    chosen = {"weight_bits": 12, "duration": 0.004, "neuron": IntegrateFire(0.3), "start_at_zero": True, "seed": seed}
    assert_kernels_agree(assert_same_record, snn, images, **chosen)


@needs_triton
def test_a_bias_behind_a_pool_and_a_flattened_convolution_are_left_to_plain_torch(assert_same_record):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.Flatten())
    net = net.extend([nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)]).eval()
    snn, images = no_norm(net, spiking_pools=False), torch.rand(4, 1, 6, 6)
    pooled, flattened = list(snn.layers)[1:3]
    snn.layer(pooled).bias = torch.tensor([0.1, -0.05, 0.2])
    assert plans(snn, (1, 6, 6))[pooled] == "scan" == plans(snn, (1, 6, 6))[flattened]
    assert_kernels_agree(assert_same_record, snn, images, duration=0.01, neuron=IntegrateFire(0.3), encode=Current())


@needs_triton
@pytest.mark.parametrize("largest", [127, 128, 32639, 32640, 32767, 8355711, 8355712, 8388607])
def test_weights_at_the_edges_of_the_digits(assert_same_record, largest):
    bits = largest.bit_length() + 1
    snn = no_norm(nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)))
    weights = torch.linspace(-1, 1, 60).reshape(5, 12)
    snn.layers["linear1"].synapses[0].weighted.weight.data = (weights * largest).round() / 2.0 ** (bits - 1)
    record = assert_kernels_agree(
        assert_same_record, snn, torch.rand(3, 3, 2, 2), weight_bits=bits, duration=0.008, neuron=IntegrateFire(0.5)
    )
    assert int(record.counts.sum()) > 0
    expected = "scan" if largest > 8355711 else "product"  # a fourth digit is left to float64
    assert plans(snn, (3, 2, 2), weight_bits=bits) == {"linear1": expected}


@given(st.lists(st.integers(-(2**31), 2**31), min_size=1))
def test_digits_are_the_weights(weights):
    found = digits(torch.tensor(weights))
    assert found.dtype == torch.int8
    assert sum(d.long() * 256**place for place, d in enumerate(found)).tolist() == weights


def test_potentials_take_64_bits_where_they_could_leave_32():
    snn = no_norm(MLP([4000, 10]))
    snn.layers["linear1"].synapses[0].weighted.weight.fill_(1)
    settings = Settings(weight_bits=16, duration=0.031)
    (layer,) = compile_program(snn, torch.Size((1, 40, 100)), settings).layers
    assert not needs_64_bits(layer, settings.steps)
    assert needs_64_bits(layer, settings.steps + 2)
    assert needs_64_bits(replace(layer, neuron=replace(layer.neuron, start_potential=-(1 << 30))), settings.steps)


def test_an_analog_input_is_left_to_plain_torch():
    assert plans(no_norm(MLP([12, 9, 5])), (3, 2, 2), encode=Current()) == {"linear1": "scan", "linear2": "product"}


def test_the_work_is_cut_to_the_memory(monkeypatch):
    settings = Settings(weight_bits=16)
    fused = triton_backend.TritonProgram(
        compile_program(no_norm(MLP([784, 1200, 1200, 10])), torch.Size((1, 28, 28)), settings), settings
    )
    assert fused.chunk * 40 * (784 + 1200 + 1200 + 10) <= triton_backend.BUDGET < (fused.chunk + 1) * 40 * 3194
    monkeypatch.setattr(triton_backend, "BUDGET", 1)
    assert fused.chunk == 1


@pytest.mark.parametrize("broken", ["no triton", "no gpu", "floats"])
def test_where_the_kernels_cannot_run_the_result_is_the_same_and_one_line_says_so(
    assert_same_record, monkeypatch, caplog, broken
):
    snn, images = no_norm(MLP([784, 20, 10])), torch.rand(5, 1, 28, 28)
    chosen = {"weight_bits": None if broken == "floats" else 16}
    if broken == "no triton":
        monkeypatch.setitem(sys.modules, "respike.simulate.rate.kernels.triton_kernels", None)
        monkeypatch.delattr("respike.simulate.rate.kernels.triton_kernels", raising=False)
        triton_backend.triton_kernels.cache_clear()
    elif broken == "no gpu":
        if kernels is None:
            pytest.skip("Triton is not installed")
        monkeypatch.setattr(kernels, "INTERPRETED", False)
    triton_backend._log_fallback.cache_clear()
    try:
        for _ in range(2):
            ours = simulate(snn, images, backend="triton", **chosen)
        assert_same_record(ours, simulate(snn, images, backend="torch", **chosen))
    finally:
        triton_backend.triton_kernels.cache_clear()
    assert sum("same result" in record.message for record in caplog.records) == 1
