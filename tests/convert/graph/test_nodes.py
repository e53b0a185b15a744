"""The graph of a network computes what the network does, and gives the readers of each node."""

import pytest
import torch

from respike.convert.graph.trace import read_graph


@pytest.mark.parametrize("bias", [False, True])
def test_running_the_graph_is_running_the_network(draw_net, wiring, bias):
    for seed in range(3):
        net, images = draw_net(wiring, seed, bias)
        graph = read_graph(net)
        assert torch.equal(graph.run(images)[graph.output], net(images))


def test_readers_are_the_nodes_that_name_a_node_among_their_inputs(draw_net):
    """In a residual block the ReLU in front is read by the first convolution and by the shortcut."""
    graph = read_graph(draw_net("projection")[0])
    assert [node.name for node in graph.readers("input")] == ["stem"]
    assert sorted(node.name for node in graph.readers(graph.nodes["conv1"].inputs[0])) == ["conv1", "shortcut"]
    assert graph.readers(graph.output) == []


def test_every_node_comes_after_its_inputs(draw_net, wiring):
    graph, known = read_graph(draw_net(wiring)[0]), {"input"}
    for name, node in graph.nodes.items():
        assert known.issuperset(node.inputs)
        known.add(name)
    assert graph.output in known


def test_running_leaves_the_images_and_the_network_alone(draw_net, wiring):
    net, images = draw_net(wiring)
    graph, pixels = read_graph(net), images.clone()
    first = graph.run(images)[graph.output]
    assert torch.equal(images, pixels)
    assert torch.equal(graph.run(images)[graph.output], first)
