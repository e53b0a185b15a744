"""torchvision's networks: ReLU CNNs convert and compute what they compute; the others are refused by name, with advice."""

import pytest
import torch
from torch import nn
from torchvision import models

from respike.convert import no_norm
from respike.convert.graph.trace import read_graph
from respike.convert.rate.wiring import build_rate_snn, cap_of
from respike.errors import InputError
from respike.networks.standardize import Standardized

CONVERTED = {  # constructor -> images' side, kinds of layers
    "resnet18": (32, {"relu", "max", "pool", "output"}),
    "squeezenet1_1": (32, {"relu", "max", "pool"}),
    "mobilenet_v2": (32, {"relu", "current", "pool", "output"}),
    "mnasnet0_5": (32, {"relu", "current", "pool", "output"}),
    "regnet_x_400mf": (32, {"relu", "pool", "output"}),
    "densenet121": (32, {"relu", "max", "current", "pool", "output"}),
    "googlenet": (32, {"relu", "max", "output"}),
    "resnet50": (32, {"relu", "max", "pool", "output"}),
    "vgg11_bn": (32, {"relu", "max", "pool", "output"}),
}
REFUSED = {
    "efficientnet_b0": r"'features\.0\.2', a SiLU, cannot be converted; train with ReLU",
    "mobilenet_v3_small": r"'features\.0\.2', a Hardswish, cannot be converted; train with ReLU",
    "regnet_y_400mf": r"se\.scale_activation', a Sigmoid, cannot be converted; gates such as squeeze-excitation",
    "vit_b_16": "a LayerNorm, cannot be converted; train with BatchNorm2d",
    "swin_t": "a LayerNorm, cannot be converted; train with BatchNorm2d",
    "convnext_tiny": "a LayerNorm, cannot be converted; train with BatchNorm2d",
}


def with_statistics(net):
    """The network in eval mode, with batch norms that change something."""
    random = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.weight.data.uniform_(0.5, 1.2, generator=random)
            module.bias.data.uniform_(-0.2, 0.3, generator=random)
    return net.eval()


@pytest.mark.parametrize("name", CONVERTED)
def test_with_relus_for_neurons_it_computes_itself(name):
    """Behind (x - mean) / std, at a small size and without unused weights: VGG's hidden layers are made narrow."""
    side, kinds = CONVERTED[name]
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    net = getattr(models, name)(weights=None, num_classes=10, **options)
    if name == "vgg11_bn":  # 4096 hidden neurons take seconds and show nothing
        net.classifier = nn.Sequential(nn.Linear(25088, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10))
    net = Standardized(with_statistics(net), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).double()
    images = torch.rand(2, 3, side, side).double()
    shape = images.shape[1:]
    snn, node_of_layer, graph = build_rate_snn(read_graph(net, input_shape=shape), readout="current", input_shape=shape)
    assert {layer.kind for layer in snn.layers.values()} == kinds
    values = {"input": images}
    with torch.no_grad():
        for layer_name, layer in snn.layers.items():
            drive = layer.drive(values)
            if layer.kind == "max":
                drive = layer.pool(drive)
            elif layer.kind == "relu":
                drive = drive.clamp(0, cap_of(graph, node_of_layer[layer_name]))
            values[layer_name] = drive
        ours, expected = values[snn.output].flatten(1), net(images)
    assert (ours - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_spikes_can_carry_is_refused_by_name_with_advice(name):
    with torch.device("meta" if name == "vit_b_16" else "cpu"):  # its 86 million random weights would take a second
        net = getattr(models, name)(weights=None, num_classes=10)
    side, net = (224, net.to_empty(device="cpu")) if name == "vit_b_16" else (32, net)
    with pytest.raises(InputError, match=REFUSED[name]) as error:
        read_graph(net, input_shape=(3, side, side))
    assert "\n" not in str(error.value)


def test_leaky_relus_are_refused_with_advice():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(InputError, match="'1', a LeakyReLU, cannot be converted; train with ReLU or ReLU6"):
        no_norm(net, torch.rand(1, 1, 8, 8))
