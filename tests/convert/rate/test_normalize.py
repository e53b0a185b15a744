"""The laws of weight normalization, with ReLUs in place of neurons, on random networks in float64."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from respike.convert import data_norm, model_norm, no_norm, percentile_norm
from respike.convert.rate.normalize import WEAKEST
from respike.convert.rate.scales import BINS
from respike.errors import InputError
from respike.networks.mlp import MLP

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def weighted(snn):
    """Names of the layers with weights, in order."""
    return [name for name, layer in snn.layers.items() if layer.kind != "pool"]


def largest_weights(snn):
    return {
        name: max((float(p.max()) for key, p in snn.layers[name].named_parameters() if key.endswith("weight")))
        for name in weighted(snn)
    }


@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_after_data_normalization_every_layer_peaks_at_1(draw_net, relu_values, wiring, bias, spiking_pools):
    """Where a weight is larger than every activation it sets the scale, and the peak is their ratio."""
    decided_by_activation = 0
    for seed in range(4):
        net, images = draw_net(wiring, seed, bias)
        raw = no_norm(net, spiking_pools=spiking_pools)
        snn = data_norm(net, images, spiking_pools=spiking_pools)
        before, after, weights = relu_values(raw, images), relu_values(snn, images), largest_weights(raw)
        for name in weighted(snn):
            activation = float(before[name].max())
            assert float(after[name].max()) == pytest.approx(min(1, activation / weights[name]), rel=1e-10)
            decided_by_activation += activation >= weights[name]
    assert decided_by_activation > 4


CONVERSIONS = {
    "data": data_norm,
    "percentile": lambda net, images, **rest: percentile_norm(net, images, q=0.9, **rest),
    "percentile of the active": lambda net, images, **rest: percentile_norm(net, images, q=0.9, zeros=False, **rest),
    "model": model_norm,
    "weak model": lambda net, images, **rest: model_norm(net, strong=False, **rest),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spiking_pools", [True, False])
def test_activations_times_scales_are_the_networks_own(draw_net, relu_values, wiring, conversion, bias, spiking_pools):
    """Normalization changes no function; sinabs, which divides weight and bias by one factor, would fail with biases."""
    for seed in range(2):
        net, images = draw_net(wiring, seed, bias)
        before = relu_values(no_norm(net, spiking_pools=spiking_pools), images)
        snn = CONVERSIONS[conversion](net, images, spiking_pools=spiking_pools)
        for name, value in relu_values(snn, images).items():
            if name != "input":
                torch.testing.assert_close(value * snn.scales[name], before[name], **CLOSE)
        assert all(
            snn.scales[name] == snn.scales[layer.sources[0]]
            for name, layer in snn.layers.items()
            if layer.kind == "pool"
        )


@pytest.mark.parametrize("bias", [True, False])
def test_in_a_chain_the_factors_multiply_up_to_the_scales(draw_net, bias):
    for wiring in ("fc", "cnn"):
        net, images = draw_net(wiring, 0, bias)
        for convention in ("lambda", "authors_code"):
            snn, product = data_norm(net, images, convention=convention), 1.0
            for name in weighted(snn):
                product *= snn.factors[name]
                assert snn.scales[name] == pytest.approx(product, rel=1e-12)


def growing(seed):
    """Four random ReLU layers whose activations are larger than their weights and grow from layer to layer."""
    random = torch.Generator().manual_seed(seed)
    net = MLP([20, 30, 30, 30, 10]).double()
    for weight in net.parameters():
        weight.data.normal_(0.1, 0.5, generator=random)
    return net, torch.rand(50, 1, 4, 5, dtype=torch.float64, generator=random)


@pytest.mark.parametrize("seed", range(3))
def test_the_authors_code_divides_by_the_previous_applied_factor(relu_values, seed):
    """applied_l = scale_l / applied_{l-1}; so later layers peak at 1/scale_1 and 1/scale_2, not at 1."""
    net, images = growing(seed)
    raw = relu_values(no_norm(net), images)
    snn = data_norm(net, images, convention="authors_code")
    scales = [float(raw[name].max()) for name in weighted(snn)]
    assert all(scale > weight for scale, weight in zip(scales, largest_weights(no_norm(net)).values(), strict=True))
    previous = 1.0
    for scale, applied in zip(scales, snn.factors.values(), strict=True):
        assert applied == pytest.approx(scale / previous, rel=1e-12)
        previous = applied
    peaks = [float(relu_values(snn, images)[name].max()) for name in weighted(snn)]
    assert peaks == pytest.approx([1, 1, 1 / scales[0], 1 / scales[1]], rel=1e-10)
    assert peaks[3] < peaks[2] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_both_conventions_agree_on_the_first_two_layers_only(seed):
    net, images = growing(seed)
    text, code = (list(data_norm(net, images, convention=name).factors.values()) for name in ("lambda", "authors_code"))
    assert text[:2] == pytest.approx(code[:2], rel=1e-12)
    assert all(abs(a / b - 1) > 0.1 for a, b in zip(text[2:], code[2:], strict=True))


def test_the_authors_code_sees_only_the_first_kernel_of_a_convolution():
    """k{1}{1} of the MATLAB, from the first input map to the first output map. Of a matrix it sees all weights."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4, bias=False)).double()
    net[0].weight.data.uniform_(-1, 0.1)
    net[0].weight.data[0, 0, 1, 0], net[0].weight.data[2, 1, 0, 0], net[3].weight.data[3, 7] = 5, 9, 40
    images = torch.rand(20, 2, 3, 3).double() / 10
    ours, theirs = (data_norm(net, images, convention=name).factors for name in ("lambda", "authors_code"))
    assert ours == pytest.approx({"conv1": 9, "linear1": 40 / 9}, rel=1e-12)
    assert theirs == pytest.approx({"conv1": 5, "linear1": 40 / 5}, rel=1e-12)
    net[0].weight.data[0] = -1  # the first kernel has no positive weight: the activations decide
    largest = float(net[:2](images).max())
    assert data_norm(net, images, convention="authors_code").factors["conv1"] == pytest.approx(largest, rel=1e-12)


def test_pools_do_not_count_in_the_authors_convention(draw_net):
    """The previous factor is that of the previous layer with weights."""
    net, images = draw_net("cnn")
    with_pools, without = (
        data_norm(net, images, convention="authors_code", spiking_pools=pools).factors for pools in (True, False)
    )
    assert with_pools == pytest.approx(without, rel=1e-12)


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_the_output_layer_may_keep_its_weights(draw_net, conversion):
    for wiring in ("fc", "cnn"):
        net, images = draw_net(wiring)
        snn, whole = (CONVERSIONS[conversion](net, images, output_layer=choice) for choice in (False, True))
        assert snn.factors[snn.output] == 1
        for name in weighted(snn)[:-1]:
            assert snn.factors[name] == whole.factors[name]


def test_the_authors_code_may_leave_the_output_layer_alone():
    net, images = growing(0)
    snn = data_norm(net, images, convention="authors_code", output_layer=False)
    *hidden, last = snn.factors.values()
    assert last == 1 and hidden == list(data_norm(net, images, convention="authors_code").factors.values())[:-1]


@pytest.mark.parametrize("strong", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_after_model_normalization_no_input_drives_any_neuron_above_1(draw_net, relu_values, wiring, bias, strong):
    for seed in range(3):
        net, images = draw_net(wiring, seed, bias)
        snn = model_norm(net, strong=strong)
        shape, random = (200, *images.shape[1:]), torch.Generator().manual_seed(seed)
        dense, binary = (
            torch.rand(shape, generator=random).double(),
            torch.rand(shape, generator=random).gt(0.5).double(),
        )
        for given in (images, dense, binary, torch.ones_like(images)):
            assert max(float(value.max()) for value in relu_values(snn, given).values()) <= 1 + 1e-12


@pytest.mark.parametrize("bias", [True, False])
def test_the_bound_of_model_normalization_is_reached(relu_values, bias):
    """Pixels 1 where the strongest neuron's weight is positive, else 0."""
    torch.manual_seed(0)
    net = MLP([12, 9, 4], bias=bias).double()
    if bias:
        net[1].bias.data.uniform_(0, 1)
    worst = (net[1].weight > 0).double().view(9, 1, 3, 4)
    assert float(relu_values(model_norm(net), worst)["linear1"].max()) == pytest.approx(1, rel=1e-12)


def test_weak_model_normalization_leaves_layers_alone_that_cannot_exceed_1():
    net = MLP([4, 3, 2]).double()
    net[1].weight.data = torch.tensor(
        [[0.125, 0.25, -5, 0.125]] * 3, dtype=torch.float64
    )  # positive weights sum to 1/2
    net[3].weight.data = torch.tensor([[1, 3, -1]] * 2, dtype=torch.float64)  # and to 4
    assert list(model_norm(net, strong=False).factors.values()) == [1, 4]
    assert list(model_norm(net).factors.values()) == [0.5, 4]


def test_the_whole_percentile_is_data_normalization_without_the_weight_rule():
    net, images = growing(0)
    by_percentile, by_maximum = percentile_norm(net, images, q=1.0).scales, data_norm(net, images).scales
    assert by_percentile == pytest.approx(by_maximum, rel=2 / BINS)


def test_a_percentile_lets_exactly_the_rest_exceed_1(relu_values):
    net, images = growing(1)
    snn = percentile_norm(net, images, q=0.9)
    for name in weighted(snn):
        assert float((relu_values(snn, images)[name] > 1).double().mean()) == pytest.approx(0.1, abs=0.01)


def test_images_may_come_as_bytes_floats_or_batches():
    net, _ = growing(0)
    pixels = torch.randint(0, 256, (30, 1, 4, 5), dtype=torch.uint8)
    floats = pixels.float() / 255
    for convert in (data_norm, percentile_norm):
        expected = convert(net.float(), floats).factors
        labelled = DataLoader(TensorDataset(floats, torch.zeros(30)), 8, shuffle=True)
        for images in (pixels, list(floats.split(7)), iter(pixels.split(11)), labelled):
            assert convert(net, images).factors == pytest.approx(expected, rel=1e-5)
        with pytest.raises(InputError, match=r"calibration images: str is not a tensor; give a tensor \(B, C, H, W\)"):
            convert(net, ["images"])


def test_without_folding_the_recorded_activations_carry_the_dropout_factor_and_the_weights_do_not(relu_values):
    torch.manual_seed(0)
    net, images = MLP([12, 20, 20, 5], dropout=0.5).double().eval(), torch.rand(30, 1, 3, 4).double()
    for weight in net.parameters():
        weight.data.uniform_(-0.3, 0.6)
    measured, x = [], images
    for module in net:
        x = module(x)
        if isinstance(module, nn.Linear):
            measured.append(x.detach())
    hidden = [float(value.relu().max()) / 2 for value in measured[:-1]]
    scales = [*hidden, float(measured[-1].max())]
    snn = data_norm(net, images, fold_dropout=False)
    assert list(snn.scales.values()) == pytest.approx(scales, rel=1e-12)
    previous = 1.0
    for ours, original, scale in zip(snn.parameters(), net.parameters(), scales, strict=True):
        torch.testing.assert_close(ours, original.detach() * previous / scale, **CLOSE)
        previous = scale


def dead_layer():
    net = MLP([4, 3, 2]).double()
    net[3].weight.data.fill_(-1)
    return net


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_layer_that_never_responds_is_refused_by_its_name(conversion):
    with pytest.raises(InputError, match="'linear2'"):
        CONVERSIONS[conversion](dead_layer(), torch.rand(5, 1, 2, 2).double())


def test_a_channel_that_hardly_responds_has_a_share_of_the_scale_of_the_strongest_one():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()
    net[0].weight.data = torch.tensor([2.0, 0.5, 1e-6, -1.0]).double().view(4, 1, 1, 1)
    net[0].bias.data.zero_()
    snn = data_norm(net, torch.ones(2, 1, 3, 3).double(), scale="channel", readout="current")
    assert snn.scales["conv1"].tolist() == pytest.approx([2, 0.5, 2 / WEAKEST, 2])


def test_a_quantile_that_falls_on_silence_is_refused_like_a_silent_layer():
    """Nine of ten neurons never respond: their median is 0, and no weight can be divided by it."""
    net = MLP([4, 20, 10]).double()
    for weight in net.parameters():
        weight.data.fill_(-1)
        weight.data[: len(weight) // 10] = 1
    images = torch.rand(5, 1, 2, 2).double()
    with pytest.raises(InputError, match="'linear1'"):
        percentile_norm(net, images, q=0.5)
    assert all(factor > 0.01 for factor in percentile_norm(net, images, q=0.5, zeros=False).factors.values())


def test_the_authors_convention_is_refused_where_branches_meet(draw_net):
    for wiring in ("identity", "projection"):
        net, images = draw_net(wiring)
        with pytest.raises(InputError, match=r"^convert\.convention=authors_code.*convert\.convention=lambda"):
            data_norm(net, images, convention="authors_code")


def test_an_unknown_convention_is_refused_with_the_known_ones():
    net, images = growing(0)
    with pytest.raises(InputError, match=r"^convert\.convention=paper.*convert\.convention=lambda or authors_code"):
        data_norm(net, images, convention="paper")
