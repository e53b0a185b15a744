"""Maxima and quantiles measured batch by batch are those of the whole calibration set."""

import math

import pytest
import torch
from torch import nn

from respike.convert import data_norm
from respike.convert.calibration import image_batches
from respike.convert.graph.trace import read_graph
from respike.convert.rate import scales
from respike.convert.rate.scales import BINS, max_scale, percentile_scale
from respike.errors import InputError

NODES = {"first": "relu1", "second": "relu2", "output": "linear3"}


@pytest.fixture(scope="module")
def case():
    """A graph, 30 images and the values of the nodes in NODES, in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20)
    ).double()
    graph, images = read_graph(net), torch.rand(30, 1, 2, 3).double()
    values = graph.run(images)
    return graph, images, {layer: values[node].detach() for layer, node in NODES.items()}


def test_bytes_become_the_unit_interval_and_batches_hold_every_image_once():
    pixels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    batches = list(image_batches(pixels, 100))
    assert [len(batch) for batch in batches] == [100, 100, 56]
    assert torch.equal(torch.cat(batches), torch.arange(256).view(-1, 1, 1, 1) / 255)
    floats = torch.rand(7, 1, 2, 2)
    assert torch.equal(torch.cat(list(image_batches(iter(floats.split(3)), 2))), floats)


def test_the_maximum_is_that_of_all_images_however_they_come(case):
    graph, images, values = case
    expected = {layer: float(value.max()) for layer, value in values.items()}
    for given in (images, list(images.split(7)), iter(images.split(1)), images.flip(0)):
        assert max_scale(graph, NODES, given) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 0.999, 1.0])
def test_a_percentile_lies_within_a_bin_of_the_quantile(case, q, zeros):
    """One bin is 1/65536 of the largest value. Negative outputs count as zeros."""
    graph, images, values = case
    for given in (images, iter(images.split(4))):
        ours = percentile_scale(q, zeros)(graph, NODES, given)
        for layer, value in values.items():
            counted = value.clamp(min=0).flatten() if zeros else value[value > 0]
            lower, higher = (float(counted.quantile(q, interpolation=side)) for side in ("lower", "higher"))
            bin_width = float(value.max()) / BINS
            assert lower - 1e-12 <= ours[layer] <= higher + bin_width + 1e-12


@pytest.mark.parametrize("by_channel", [False, True])
def test_scales_do_not_depend_on_how_images_are_batched(case, monkeypatch, by_channel):
    graph, images, _ = case
    for measure in (max_scale, percentile_scale(0.9, True)):
        whole = measure(graph, NODES, images, by_channel)
        monkeypatch.setattr(scales, "BATCH", 1)  # one image at a time, as large ones are
        parts = measure(graph, NODES, images, by_channel)
        assert whole.keys() == parts.keys() and all(torch.allclose(whole[name], parts[name]) for name in whole)
        monkeypatch.undo()


def test_a_percentile_rises_with_q_and_with_leaving_out_silence(case):
    graph, images, _ = case
    scales = {
        (q, zeros): percentile_scale(q, zeros)(graph, NODES, images)
        for q in (0.6, 0.9, 0.99)
        for zeros in (True, False)
    }
    for layer in NODES:
        for zeros in (True, False):
            assert scales[0.6, zeros][layer] < scales[0.9, zeros][layer] < scales[0.99, zeros][layer]
        for q in (0.6, 0.9, 0.99):
            assert scales[q, True][layer] < scales[q, False][layer]


@pytest.mark.parametrize("by_channel", [False, True])
def test_a_quantile_far_below_the_maximum_is_its_bin_and_not_silence(by_channel):
    """One activation is a million times as large as the others; without zeros no quantile of activations is 0."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.ones_(net[1].weight)
    images = torch.cat([torch.full((400, 1, 1, 1), 1e-6), torch.ones(1, 1, 1, 1)])
    bins = scales.CHANNEL_BINS if by_channel else BINS
    ours = percentile_scale(0.9, False)(read_graph(net), {"only": "relu1"}, images, by_channel)
    assert float(ours["only"]) == pytest.approx(1 / bins)


def test_a_silent_layer_has_scale_zero():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU())
    net[1].weight.data.fill_(-1)
    graph, images = read_graph(net), torch.rand(5, 1, 2, 2)
    assert max_scale(graph, {"only": "relu1"}, images) == {"only": 0}
    for zeros in (True, False):
        assert percentile_scale(0.9, zeros)(graph, {"only": "relu1"}, images) == {"only": 0}


@pytest.mark.parametrize("gather", [max_scale, percentile_scale(0.9, True)])
@pytest.mark.parametrize("images", [[], torch.empty(0, 1, 2, 3).double()])
def test_an_empty_calibration_set_is_refused(case, gather, images):
    with pytest.raises(InputError, match="empty"):
        gather(case[0], NODES, images)


@pytest.mark.parametrize("q", [0, -0.1, 1.0001, 99.9, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(q):
    with pytest.raises(InputError, match=rf"^convert\.q={q}.*convert\.q=0\.999"):
        percentile_scale(q, True)


def silent_map(images, dtype=torch.float32):
    """Eleven silent channels for each that repeats the pixels: the graph of the network, and its images."""
    net = nn.Sequential(nn.Conv2d(1, 24, 1, bias=False), nn.ReLU())
    net[0].weight.data[:] = -1
    net[0].weight.data[:2] = 1
    return read_graph(net.to(dtype)), images.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_percentile_counts_more_silent_neurons_than_its_dtype_can(dtype):
    """float32 holds whole numbers up to 2^24, bfloat16 to 2^8; 22 of 24 channels are silent."""
    side = 1024 if dtype == torch.float32 else 100
    pixels = torch.linspace(1 / side**2, 1, side**2).view(1, 1, side, side)
    graph, images = silent_map(pixels, dtype)
    (name,) = [node.name for node in graph.nodes.values() if node.kind == "relu"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each thread counts its own share
    try:
        scale = percentile_scale(1 - 1 / 24, True)(graph, {"layer": name}, images)["layer"]
    finally:
        torch.set_num_threads(threads)
    assert scale == pytest.approx(0.5, rel=2 * torch.finfo(dtype).eps + 1e-3)


def test_images_of_another_dtype_than_the_weights_are_measured_in_that_of_the_weights():
    graph, images = silent_map(torch.rand(2, 1, 5, 5))
    (name,) = [node.name for node in graph.nodes.values() if node.kind == "relu"]
    assert max_scale(graph, {"layer": name}, images.double()) == max_scale(graph, {"layer": name}, images)


def test_a_relu_in_place_at_the_input_leaves_the_calibration_images_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.randn(5, 1, 2, 3)
    before = images.clone()
    data_norm(net, images)
    assert torch.equal(images, before)
