"""Every step of the exact mapping keeps the function of every chain; networks without an exact form are refused in one line."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from chains import chains
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from respike.convert import exact_map
from respike.convert.exact.folding import fold_forward
from respike.convert.exact.mapping import map_graph
from respike.convert.exact.preprocessing import bound_weight_sums, preprocess
from respike.convert.exact.ranges import measure_ranges
from respike.convert.exact.reading import read_relu_graph
from respike.convert.graph.nodes import BiasMapConv2d, SignedMaxPool2d
from respike.convert.graph.trace import read_graph
from respike.errors import InputError, SilentLayer


def difference(graph, images, expected):
    """Largest difference of the outputs, as a share of the largest output."""
    with torch.no_grad():
        return float((graph.run(images)[graph.output] - expected).abs().max() / expected.abs().max().clamp(min=1))


def without_softmax(net):
    return net[:-1] if isinstance(net[-1], nn.Softmax) else net


@given(chains(), st.sampled_from([(-10.0, 0.99), (-0.2, 0.3)]))
def test_each_step_of_phase_1_keeps_the_function(case, bounds):
    net, images, (p, q) = case
    shape, expected = images.shape[1:], without_softmax(net)(images).detach()
    chain = read_relu_graph(read_graph(net), shape)
    assert difference(chain, images, expected) < 1e-9
    unit = (images - p) / (q - p)
    folded = fold_forward(chain, shape, (p, q))
    assert difference(folded, unit, expected) < 1e-9
    assert {node.kind for node in folded.nodes.values()} <= {"conv", "linear", "relu", "maxpool", "flatten"}
    bounded = bound_weight_sums(folded, shape, *bounds)
    assert difference(bounded, unit, expected) < 1e-9
    *hidden, _ = (node.module for node in bounded.nodes.values() if node.kind in ("conv", "linear"))
    for module in hidden:
        sums = module.weight.flatten(1).sum(1)
        assert bounds[0] - 1e-9 <= sums.min() and sums.max() <= bounds[1] + 1e-9


@given(chains(), st.floats(-0.9, 2))
def test_phase_2_follows_the_papers_equations(case, zeta):
    """J, theta and the intervals are recomputed from the weights; after all inputs the spike time is t_max - x."""
    net, images, (p, q) = case
    chain = preprocess(net, images.shape[1:], (p, q))
    try:
        ranges = measure_ranges(chain, images, (p, q))
    except SilentLayer:
        return
    snn = map_graph(chain, ranges.largest, zeta, (p, q))
    values = chain.run((images - p) / (q - p))
    t_min_prev, t_min, inputs = 0.0, 1.0, 1 - (images - p) / (q - p)
    for name, layer in list(snn.layers.items())[:-1]:
        relu = chain.readers(name)[0].name
        B, W = (1 + zeta) * ranges.largest[name], chain.nodes[name].module.weight
        assert ranges.largest[name] == pytest.approx(float(values[relu].max()), rel=1e-12)
        assert float(layer.t_min) == pytest.approx(t_min) and float(layer.t_max) == pytest.approx(t_min + B)
        J = W / (1 - W.flatten(1).sum(1)).view(-1, *[1] * (W.ndim - 1))
        torch.testing.assert_close(layer.synapses.weight, J.detach(), rtol=1e-9, atol=1e-9)
        total = layer.total(layer.synapses.weight)
        arriving = layer.path(t_min - inputs)  # leads: padded places spike at t_min
        weighted = t_min * total - layer.synapses(arriving)  # sum_j J_ij t_j
        times = (weighted + layer.theta + t_min_prev) / (total + 1)
        expected = t_min + B - values[name]
        torch.testing.assert_close(times, expected, rtol=1e-9, atol=1e-9 * float(t_min + B + values[name].abs().max()))
        inputs = t_min + B - values[relu]
        t_min_prev, t_min = t_min, t_min + B
    assert snn.latency == pytest.approx(t_min)


def test_a_shift_before_a_padded_3x3_gives_the_papers_nine_biases():
    """In the interior, at edges and at corners: b + (sum of the kernel's taps inside the map) times the shift."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    net = net.append(nn.Flatten()).append(nn.Linear(3 * 30, 2)).double().eval()
    net[2].running_mean.uniform_(-1, 1)
    graph = fold_forward(read_relu_graph(read_graph(net), (1, 5, 6)), (1, 5, 6))
    conv = graph.nodes["conv2"].module
    assert isinstance(conv, BiasMapConv2d)
    norm, original = net[2], net[3]
    shift = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()
    taps = {"first": slice(1, 3), "inside": slice(0, 3), "last": slice(0, 2)}
    rows = {"first": [0], "inside": [1, 2, 3], "last": [4]}
    columns = {"first": [0], "inside": [1, 2, 3, 4], "last": [5]}
    for row, ys in rows.items():
        for column, xs in columns.items():
            inside = original.weight[:, :, taps[row], taps[column]].sum((2, 3))
            bias = original.bias + inside @ shift
            for y in ys:
                for x in xs:
                    torch.testing.assert_close(conv.bias_map[:, y, x], bias.detach(), rtol=1e-12, atol=1e-12)
    assert len(conv.bias_map.flatten(1).T.unique(dim=0)) == 9


def test_a_negative_kappa_makes_its_channels_pool_a_min_pool():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    net[2].weight.data = torch.tensor([1.0, -1.0, 0.0, -2.0])
    chain = preprocess(net.eval(), (1, 6, 6))
    pool = next(node.module for node in chain.nodes.values() if node.kind == "maxpool")
    assert isinstance(pool, SignedMaxPool2d) and pool.sign.tolist() == [1, -1, 1, -1]
    x = torch.rand(3, 4, 4, 4)
    lowest = -F.max_pool2d(-x, 2)
    assert torch.equal(pool(x)[:, 1::2], lowest[:, 1::2]) and torch.equal(pool(x)[:, ::2], F.max_pool2d(x, 2)[:, ::2])


@given(chains(ends=("none",)))
def test_mapping_leaves_the_network_alone_and_batches_are_as_good_as_all_images(case):
    net, images, input_range = case
    before = copy.deepcopy(net.state_dict())
    try:
        snn = exact_map(net, images, input_range=input_range)
    except SilentLayer:
        return
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    again = exact_map(net, list(images.split(5)), input_range=input_range)
    assert "latency" in repr(snn)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, snn.state_dict()[name])


@given(chains())
def test_the_automatic_zeta_is_the_largest_upper_bound_over_x_n(case):
    """The upper bound sum W+ x + b is computed from the activations of the original chain."""
    net, images, (p, q) = case
    try:
        snn = exact_map(net, images, zeta="auto", input_range=(p, q))
    except SilentLayer:
        return
    chain = preprocess(net, images.shape[1:], (p, q))
    values, needed = chain.run((images - p) / (q - p)), []
    for name in list(snn.layers)[:-1]:
        node = copy.deepcopy(chain.nodes[name])
        node.module.weight.data.clamp_(min=0)
        needed.append(float(node.module(values[node.inputs[0]]).max() / snn.ranges.largest[name]) - 1)
    if needed:
        assert float(snn.zeta) == pytest.approx(max(needed), rel=1e-6, abs=1e-6)
        assert snn.zeta >= 0


def test_x_n_and_the_active_share_are_those_of_all_images_however_they_come():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    images = torch.rand(40, 1, 2, 3).double()
    values = net[:3](images)
    images = images[values.amax(1).argsort()]  # the largest activation is that of the last image, or of the first
    found = []
    for given_ in (images, list(images.split(7)), iter(images.split(3)), list(images.flip(0).split(7))):
        ranges = exact_map(net, given_, weight_bounds=(-1e9, 0.999)).ranges
        found.append(ranges.largest["linear1"])
        assert ranges.active["linear1"] == pytest.approx(float((values > 0).double().mean()))
    assert found == pytest.approx(4 * [found[0]], rel=1e-12) and 0 < found[0] <= float(values.max())


with torch.random.fork_rng():
    torch.manual_seed(0)
    TINY = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
PIXELS = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("zeta", [-1, -1.5, math.nan])
def test_a_zeta_of_minus_one_or_less_is_refused(zeta):
    with pytest.raises(InputError, match=rf"^convert\.zeta={zeta}.*above -1.*convert\.zeta=0\.5"):
        exact_map(TINY, PIXELS, zeta=zeta)


def test_a_missing_x_n_is_refused_by_the_layers_name():
    with pytest.raises(InputError, match=r"layer 'linear1' has no X_n"):
        map_graph(preprocess(TINY, (1, 2, 2)), {}, 0.5)


def test_images_outside_the_input_range_are_refused():
    with pytest.raises(InputError, match=r"between -0\.1.*\[0, 1\].*convert\.input_range=\[-0\.1001,1\]"):
        exact_map(TINY, torch.full((2, 1, 2, 2), -0.1))


def test_an_empty_training_set_is_refused():
    for images in ([], torch.empty(0, 1, 2, 2)):
        with pytest.raises(InputError, match="empty"):
            exact_map(TINY, images)


def conv_net(*modules):
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), *modules, nn.Flatten(), nn.LazyLinear(2))


UNMAPPED = {
    "no ReLU": (conv_net(nn.Conv2d(2, 2, 3)), "'conv1' and 'conv2' are two weighted layers with no ReLU"),
    "factor before a ReLU": (conv_net(nn.Flatten(), nn.ReLU()), "stands between ReLU 'relu1'"),
    "ReLU on the input": (nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), "before the first weighted layer"),
    "two ReLUs": (conv_net(nn.ReLU(), nn.BatchNorm2d(2), nn.ReLU()), "'relu1' and 'relu2' are two ReLUs"),
    "reflected padding": (
        conv_net(nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        "reflect",
    ),
    "trailing norm": (
        nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.ReLU(), nn.BatchNorm1d(2)),
        "'batchnorm1' stands behind",
    ),
    "no weights": (nn.Sequential(nn.Flatten()), "no Linear or Conv2d"),
}


@pytest.mark.parametrize("what", UNMAPPED)
def test_a_network_without_an_exact_form_is_refused_in_one_line(what):
    net, words = UNMAPPED[what]
    images = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        net.eval()(images)  # gives lazy layers their size
    with pytest.raises(InputError, match=words) as error:
        exact_map(net, images)
    assert "\n" not in str(error.value)


def test_an_adaptive_pool_that_keeps_every_pixel_is_passed():
    """torchvision's VGG16 has one on images of 224 pixels."""
    torch.manual_seed(0)
    net = conv_net(nn.ReLU(), nn.AdaptiveAvgPool2d((4, 4))).eval()
    images = torch.rand(3, 1, 4, 4)
    expected = net(images).double()
    chain = preprocess(net, (1, 4, 4))
    torch.testing.assert_close(chain.run(images.double())[chain.output], expected.detach(), rtol=1e-5, atol=1e-5)


def test_ranges_of_several_ranks_are_those_of_all_images(monkeypatch):
    """Three ranks, the last without an image. The parts that single calls gather are given to a last call."""
    torch.manual_seed(0)
    net, images = (
        nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3)).double(),
        torch.rand(10, 1, 3, 3),
    )
    chain = preprocess(net, images.shape[1:])
    whole, parts = measure_ranges(chain, images, upper_bounds=True), []
    with monkeypatch.context() as alone:
        alone.setattr("respike.convert.exact.ranges.all_gather", lambda part: parts.append(part) or [part])
        for share in (images[:6], images[6:]):
            measure_ranges(chain, share, upper_bounds=True)
    none = {"linear1": 0.0}, {}, {"linear1": [0, 0]}
    monkeypatch.setattr("respike.convert.exact.ranges.all_gather", lambda part: [*parts, none])
    assert measure_ranges(chain, (), upper_bounds=True) == whole
