"""Reading a network: which operations are recognized, how they are named, and which are refused."""

import operator
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.convert.graph.trace import read_graph
from respike.errors import InputError
from respike.networks.mlp import MLP, MaskDropout, UnmaskedReLU


class Forward(nn.Module):
    """Two convolutions and two linear layers, with a forward given by the test."""

    def __init__(self, forward):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(27, 8), nn.Linear(8, 4)
        self.relu, self.pool, self.flatten = nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


IMAGES = torch.rand(5, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make(forward):
    torch.manual_seed(0)
    return Forward(forward).double()


def chain(relu=F.relu, pool=lambda x: F.avg_pool2d(x, 2), flatten=lambda x: torch.flatten(x, 1)):
    """conv1 - ReLU - pool - fc1 - ReLU - fc2, with the operations given."""
    return make(lambda net, x: net.fc2(relu(net.fc1(flatten(pool(relu(net.conv1(x))))))))


KINDS = ["conv", "relu", "avgpool", "flatten", "linear", "relu", "linear"]
SPELLINGS = {
    "modules": make(lambda net, x: net.fc2(net.relu(net.fc1(net.flatten(net.pool(net.relu(net.conv1(x)))))))),
    "functions": chain(),
    "torch.relu": chain(relu=torch.relu),
    "x.relu()": chain(relu=lambda x: x.relu()),
    "F.relu(inplace)": chain(relu=lambda x: F.relu(x, inplace=True)),
    "input by keyword": chain(
        lambda x: F.relu(input=x),
        lambda x: F.avg_pool2d(input=x, kernel_size=2),
        lambda x: torch.flatten(input=x, start_dim=1),
    ),
    "pool by keyword": chain(pool=lambda x: F.avg_pool2d(x, kernel_size=2, stride=2)),
    "adaptive pool": chain(pool=lambda x: F.adaptive_avg_pool2d(x, 3)),
    "x.flatten(1)": chain(flatten=lambda x: x.flatten(1)),
    "flatten(start_dim=1)": chain(flatten=lambda x: torch.flatten(x, start_dim=1)),
    "x.flatten(start_dim=1)": chain(flatten=lambda x: x.flatten(start_dim=1)),
    "view(size(0), -1)": chain(flatten=lambda x: x.view(x.size(0), -1)),
    "view(shape[0], -1)": chain(flatten=lambda x: x.view(x.shape[0], -1)),
    "view(-1, n)": chain(flatten=lambda x: x.view(-1, 27)),
    "reshape": chain(flatten=lambda x: x.contiguous().reshape(x.size(0), -1)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_network_reads_alike(spelling):
    net = SPELLINGS[spelling]
    graph = read_graph(net)
    assert [node.kind for node in graph.nodes.values()] == KINDS
    assert [name for name, node in graph.nodes.items() if node.kind in ("conv", "linear")] == ["conv1", "fc1", "fc2"]
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("add", [operator.add, operator.iadd, torch.add, lambda a, b: a.add(b)])
@pytest.mark.parametrize("factor", [1, 0.5])
def test_branches_meet_in_an_add_and_constant_factors_are_kept(add, factor):
    def forward(net, x):
        x = F.relu(net.conv1(x))
        return F.relu(add(net.conv2(x), x * factor if factor != 1 else x))

    net = make(forward)
    graph = read_graph(net)
    kinds = [node.kind for node in graph.nodes.values()]
    assert sorted(kinds) == sorted(["conv", "relu", "conv", "add", "relu"] + ["scale"] * (factor != 1))
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "window",
    [lambda x: x.size()[3], lambda x: x.size()[2:], lambda x: x.shape[-2:], lambda x: (x.size(2), x.size(3))],
    ids=["side", "size()[2:]", "shape[-2:]", "size(2), size(3)"],
)
def test_a_pool_over_the_whole_map_is_one_at_every_size(window):
    """As F.avg_pool2d(x, x.size()[3]) in published CIFAR networks."""

    def forward(net, x):
        x = F.relu(net.conv1(x))
        return F.avg_pool2d(x, window(x)).flatten(1)

    net = make(forward)
    graph = read_graph(net, input_shape=(1, 6, 6))
    for images in (IMAGES, F.interpolate(IMAGES, 9)):
        torch.testing.assert_close(graph.run(images)[graph.output], net(images), rtol=1e-12, atol=1e-12)


def test_functions_with_weights_read_as_their_modules():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).double()
    nn.init.uniform_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2), nn.init.uniform_(norm.bias)

    def forward(net, x):
        x = F.conv2d(x, net.conv1.weight, net.conv1.bias, stride=(1, 1), padding=1)
        x = F.batch_norm(x, net.norm.running_mean, net.norm.running_var, bias=net.norm.bias, training=net.training)
        x = F.avg_pool2d(x.clamp_min(0), 2).flatten(1)
        return F.linear(x, weight=net.fc1.weight / 2)

    net = make(forward)
    net.norm = norm
    graph = read_graph(net.train(), input_shape=(1, 6, 6))
    assert [node.kind for node in graph.nodes.values()] == ["conv", "relu", "avgpool", "flatten", "linear"]
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net.eval()(IMAGES), rtol=1e-12, atol=1e-12)


def test_functional_norms_of_features_and_norms_without_statistics():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5).double()
    nn.init.uniform_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(net, x):
        x = F.relu(net.fc1(x.flatten(1)))
        return net.out(F.batch_norm(x, net.norm.running_mean, net.norm.running_var))

    net = make(forward)
    net.norm, net.fc1, net.out = norm, nn.Linear(36, 5).double(), nn.Linear(5, 2).double()
    graph = read_graph(net.eval(), input_shape=(1, 6, 6))
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)
    assert graph.shapes((1, 6, 6))[graph.output] == (2,)
    bare = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    with pytest.raises(InputError, match="batch norm '2' keeps no running statistics"):
        read_graph(bare, input_shape=(1, 6, 6))


@pytest.mark.parametrize("add", [torch.add, lambda a, b, alpha: a.add(b, alpha=alpha)])
@pytest.mark.parametrize("alpha", [2, -0.5, 1])
def test_a_weighted_add_is_a_sum_with_a_factor(add, alpha):
    """torch.add(a, b, alpha=2) is a + 2 b."""
    net = make(lambda net, x: add(net.conv1(x), F.relu(net.conv1(x)), alpha=alpha))
    graph = read_graph(net)
    assert [node.kind for node in graph.nodes.values()].count("scale") == (alpha != 1)
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


REDUCED = {  # of maps to one value per channel
    "mean(3).mean(2)": ("avgpool", lambda x: x.mean(3).mean(2)),
    "mean((2, 3)) of no dtype": ("avgpool", lambda x: x.mean((2, 3), dtype=None)),
    "mean(2).mean(-1)": ("avgpool", lambda x: x.mean(2).mean(dim=-1)),
    "mean, kept": ("avgpool", lambda x: x.mean(2, keepdim=True).mean(3, keepdim=True).flatten(1)),
    "mean, kept, squeezed": ("avgpool", lambda x: torch.mean(x, 3, keepdim=True).mean(2).squeeze(-1)),
    "squeeze(3).squeeze(2)": ("avgpool", lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2)),
    "squeeze(-1).squeeze(-1)": ("avgpool", lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)),
    "view(B, C, -1).mean(2)": ("avgpool", lambda x: x.reshape(x.size(0), x.size(1), -1).mean(2)),
    "flatten(2).mean(-1)": ("avgpool", lambda x: x.flatten(2).mean(-1)),
    "amax((2, 3))": ("maxpool", lambda x: x.amax((2, 3))),
    "amax, kept": ("maxpool", lambda x: torch.amax(x, dim=(-1, -2), keepdim=True).flatten(1)),
    "amax(3).amax(2)": ("maxpool", lambda x: x.amax(3).amax(2)),
    "flatten(2).amax(2)": ("maxpool", lambda x: x.flatten(2).amax(2)),
    "adaptive_max_pool2d": ("maxpool", lambda x: F.adaptive_max_pool2d(x, 1).flatten(1)),
    "AdaptiveMaxPool2d": ("maxpool", nn.Sequential(nn.AdaptiveMaxPool2d((1, 1)), nn.Flatten())),
}


@pytest.mark.parametrize("form", REDUCED)
def test_means_maxima_and_squeezes_over_all_places_are_global_pools(form):
    kind, reduce = REDUCED[form]
    net = make(lambda net, x: net.reduce(F.relu(net.conv1(x))[:, :, :, 1:]))  # maps of 6x5
    net.reduce = reduce
    graph = read_graph(net, input_shape=(1, 6, 6))
    kinds = [node.kind for node in graph.nodes.values()]
    assert kinds == ["conv", "relu", "slice", kind, *["flatten"] * (len(kinds) - 4)]
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


def test_adaptive_max_pools_and_flattenings_in_parts():
    for reduce in (
        lambda x: F.adaptive_max_pool2d(x, (2, None)).flatten(1),
        nn.Sequential(nn.AdaptiveMaxPool2d(3), nn.Flatten()),
        lambda x: x.flatten(2).flatten(1),
    ):
        net = make(lambda net, x: net.reduce(F.relu(net.conv1(x))))
        net.reduce = reduce
        graph = read_graph(net, input_shape=(1, 6, 6))
        torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


OTHERS = {
    "windows of unequal size": (lambda x: F.adaptive_max_pool2d(x, 4).flatten(1), "windows of unequal size"),
    "a mean of rows": (lambda x: x.mean(2).flatten(1), "a mean over the axes 2"),
    "a mean of another dtype": (lambda x: x.mean((2, 3), dtype=torch.float32), "'mean' with dtype"),
    "the maximum of means": (lambda x: x.mean(3).amax(2), "a maximum over the axes 2"),
    "a ReLU of a list of places": (lambda x: x.flatten(2).relu().mean(2), "a mean over the axes 2"),
    "a channel shuffle": (lambda x: x.view(-1, 3, 1, 6, 6).transpose(1, 2).flatten(1), "'transpose'"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_reductions_and_shuffles_are_refused_by_name(what):
    reduce, words = OTHERS[what]
    net = make(lambda net, x: net.reduce(F.relu(net.conv1(x))))
    net.reduce = reduce
    with pytest.raises(InputError, match=words) as error:
        read_graph(net, input_shape=(1, 6, 6))
    assert "\n" not in str(error.value)


def test_dropout_is_dropped_and_the_authors_dropout_is_a_factor():
    torch.manual_seed(0)
    body = nn.Conv2d(1, 2, 3), nn.Dropout2d(0.5), nn.Identity(), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    net = nn.Sequential(nn.Dropout(0.5), *body, nn.Dropout(0.1)).double()
    graph = read_graph(net.train())
    assert [node.kind for node in graph.nodes.values()] == ["conv", "relu", "flatten", "linear"]
    assert torch.equal(graph.run(IMAGES)[graph.output], net.eval()(IMAGES))
    authors = MLP([36, 6, 3], dropout=0.5).double()
    graph = read_graph(authors.train())
    assert [node.kind for node in graph.nodes.values()].count("dropout_scale") == 1
    assert torch.equal(graph.run(IMAGES)[graph.output], authors.eval()(IMAGES))


def test_only_what_changes_its_input_in_place_is_refused_where_the_input_is_read_again():
    def forward(net, x, relu):
        x = net.conv1(x)
        return net.fc1(torch.flatten(F.avg_pool2d(relu(x) + x, 2), 1))

    net = make(lambda net, x: forward(net, x, lambda x: x.clamp(0, 1)))
    graph = read_graph(net)
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match="changes in place"):
        read_graph(make(lambda net, x: forward(net, x, lambda x: F.relu(x, True))))


def test_functional_dropout_is_dropped():
    net = make(lambda net, x: F.relu(net.conv2(F.dropout(F.relu(net.conv1(x)), 0.5, training=net.training))))
    graph = read_graph(net.train())
    assert [node.kind for node in graph.nodes.values()] == ["conv", "relu", "conv", "relu"]
    assert torch.equal(graph.run(IMAGES)[graph.output], net.eval()(IMAGES))


def test_a_module_used_twice_has_two_names():
    net = make(lambda net, x: net.relu(net.conv2(net.relu(net.conv2(net.relu(net.conv1(x)))))))
    graph = read_graph(net)
    assert [name for name in graph.nodes if name.startswith("conv")] == ["conv1", "conv2", "conv2_2"]
    assert len(graph.nodes) == 6
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


def test_a_name_made_up_is_never_one_that_is_taken():
    """The third call of relu would be named relu_3, which is the name of another module here."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.conv3 = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
            self.relu, self.relu_3 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv3(self.relu(self.conv2(self.relu_3(self.conv1(x))))))

    torch.manual_seed(0)
    net = Named().double()
    graph = read_graph(net)
    assert len(graph.nodes) == 6
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], net(IMAGES), rtol=1e-12, atol=1e-12)


def test_layers_are_called_by_the_names_of_their_modules_and_counted_where_those_are_numbers():
    nested = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(32, 3), UnmaskedReLU())
    )
    assert list(read_graph(nested).nodes) == ["conv1", "relu1", "flatten1", "linear1", "relu2"]
    assert list(read_graph(make(lambda net, x: net.fc1(net.relu(net.conv1(x)).flatten(1)))).nodes) == [
        "conv1",
        "relu",
        "flatten1",
        "fc1",
    ]


REFUSED = {
    "tanh": (lambda net, x: torch.tanh(net.conv1(x)), "'tanh'"),
    "sigmoid method": (lambda net, x: net.conv1(x).sigmoid(), "'sigmoid'"),
    "gelu": (lambda net, x: F.gelu(net.conv1(x)), "'gelu'"),
    "leaky": (lambda net, x: F.leaky_relu(net.conv1(x)), "'leaky_relu'"),
    "difference": (lambda net, x: net.conv1(x) - x, "'sub'"),
    "division of a constant": (lambda net, x: 2 / net.conv1(x), "'truediv'"),
    "division by a branch": (lambda net, x: net.conv1(x) / x, "'truediv'"),
    "product of branches": (lambda net, x: net.conv1(x) * x, "'mul'"),
    "mean over the batch": (lambda net, x: net.conv1(x).mean(0), "'mean'"),
    "concatenation of rows": (lambda net, x: torch.cat([net.conv1(x), net.conv1(x)], 2), "'cat'"),
    "concatenation of images": (lambda net, x: torch.cat([net.conv1(x), net.conv1(x)]), "'cat'"),
    "flatten with the batch": (lambda net, x: torch.flatten(net.conv1(x)), "reshape"),
    "flatten of all": (lambda net, x: net.conv1(x).flatten(0, -1), "reshape"),
    "flatten of each map": (lambda net, x: torch.flatten(net.conv1(x), 2, -1), "reshape"),
    "reshape to maps": (lambda net, x: net.conv1(x).view(-1, 3, 36), "reshape"),
    "branch on values": (lambda net, x: net.conv1(x) if x.sum() > 0 else x, "Forward.forward cannot be traced"),
    "loop over the batch": (lambda net, x: sum(net.conv1(image) for image in x), "Forward.forward cannot be traced"),
    "two outputs": (lambda net, x: (net.conv1(x), x), "Forward returns tuple"),
    "error without a message": (lambda net, x: next(iter([])), r"Forward.forward cannot be traced.*\(StopIteration\)"),
    "parts": (lambda net, x: torch.cat(net.conv1(x).chunk(3, 1)[::-1], 1), r"'chunk'.*slices, as in x\[:, :8\]"),
    "parts of given sizes": (lambda net, x: torch.split(net.conv1(x), [1, 2], 1)[0], r"'split'.*slices"),
    "all parts": (lambda net, x: torch.cat(net.conv1(x).split(1, 1), 1), "'split'"),
    "weights of the images": (lambda net, x: F.conv2d(net.conv1(x), x), "'conv2d'"),
    "norm by the batch": (
        lambda net, x: F.batch_norm(net.conv1(x), None, None, training=True),
        "batch_norm with the statistics",
    ),
    "len of the batch": (lambda net, x: net.conv1(x).view(len(x), -1), "Forward.forward cannot be traced"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_operation_without_spikes_is_refused_by_its_name(what):
    forward, words = REFUSED[what]
    with pytest.raises(InputError, match=words) as error:
        read_graph(make(forward))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "module", [nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(), nn.GELU(), nn.GroupNorm(1, 3), nn.ConvTranspose2d(3, 3, 2)]
)
def test_a_module_without_spikes_is_refused_by_its_name(module):
    with pytest.raises(InputError, match=rf"layer 'body\.1', a {type(module).__name__}, .*Linear, Conv2d, ReLU"):
        read_graph(nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(1, 3, 3), module))))


@pytest.mark.parametrize("training", [True, False])
def test_reading_never_changes_the_network(training):
    body = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.ReLU()
    net = nn.Sequential(*body, MaskDropout(0.5)).train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = read_graph(net)
    for node in graph.nodes.values():
        for parameter in node.module.parameters():
            parameter.data.zero_()
    assert all(module.training == training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
