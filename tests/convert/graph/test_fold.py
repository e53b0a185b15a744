"""Batch norms folded into the layers in front of them keep the function; one that cannot be folded is refused."""

import pytest
import torch
from torch import nn

from respike.convert.graph.trace import read_graph
from respike.errors import InputError

IMAGES = torch.rand(5, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def with_batch_norms(affine):
    torch.manual_seed(1)
    conv = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=affine), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    net = nn.Sequential(*conv, nn.Linear(16, 6), nn.BatchNorm1d(6, eps=0.1, affine=affine), nn.ReLU(), nn.Linear(6, 3))
    for norm in (net[1], net[6]):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.2, 3)
        if affine:
            norm.weight.data.uniform_(-2, 2)
            norm.bias.data.uniform_(-1, 1)
    return net.double()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_folded_batch_norms_keep_the_function_at_test(affine, training):
    net = with_batch_norms(affine)
    expected = net.eval()(IMAGES)
    graph = read_graph(net.train(training))
    assert "batchnorm" not in {node.kind for node in graph.nodes.values()}
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], expected, rtol=1e-10, atol=1e-10)


def test_two_batch_norms_in_a_row_are_both_folded():
    net = with_batch_norms(True)
    twice = nn.Sequential(net[0], net[1], with_batch_norms(True)[1], nn.ReLU()).eval()
    graph = read_graph(twice)
    assert [node.kind for node in graph.nodes.values()] == ["conv", "relu"]
    torch.testing.assert_close(graph.run(IMAGES)[graph.output], twice(IMAGES), rtol=1e-10, atol=1e-10)


def test_a_batch_norm_without_running_statistics_is_refused():
    """Its output depends on the batch, so no weights can replace it."""
    with pytest.raises(InputError):
        read_graph(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()))


class ReadTwice(nn.Module):
    """A convolution read by its batch norm and by a shortcut around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.relu(self.norm(x) + x)


def test_a_convolution_that_something_else_reads_too_is_not_changed():
    torch.manual_seed(0)
    net = ReadTwice().double().eval()
    net.norm.running_mean.uniform_(-1, 1)
    graph = read_graph(net)
    assert [node.kind for node in graph.nodes.values()] == ["conv", "batchnorm", "add", "relu"]
    assert torch.equal(graph.run(IMAGES)[graph.output], net(IMAGES))


def test_folding_leaves_the_norm_of_the_network_alone():
    net = with_batch_norms(False)
    read_graph(net)
    assert net[1].weight is None and net[1].bias is None
