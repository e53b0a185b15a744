"""What is said of a network's operations is what the conversion makes of them."""

from functools import partial

import pytest
import torch
from torch import nn

from respike.convert import calibrate_bias, percentile_norm, qcfs_thresholds
from respike.convert.rate.operations import dissect
from respike.convert.rate.wiring import wiring_of
from respike.errors import InputError


class Residual(nn.Module):
    """Batch norms, dropout, a max-pool, a concatenation, an addition and a linear bottleneck."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.relu, self.pool = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.narrow, self.wide, self.cap = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), nn.ReLU6()
        self.drop, self.mean, self.out = nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)
        self.classes = nn.Softmax(1)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.stem(x))))
        y = self.relu(self.left(x) + x)
        x = torch.cat([y, self.relu(self.right(x))], 1)
        x = self.mean(self.drop(self.cap(self.wide(self.narrow(x)))))
        return self.classes(self.out(x.flatten(1)))


def shapes_of_calls(net, images):
    """The shapes of what each module returned, by its path, without the batch."""
    seen = {}
    for path, module in net.named_modules():
        module.register_forward_hook(
            lambda module, args, value, path=path: seen.setdefault(path, []).append(tuple(value.shape[1:]))
        )
    net(images)
    return seen


@pytest.mark.parametrize("readout", ["counts", "current"])
@pytest.mark.parametrize("max_pool", ["count", "gate", "before_neuron", "average"])
def test_every_module_is_an_operation_with_its_shape_and_every_layer_is_one_operation(max_pool, readout):
    net = Residual().eval()
    anatomy = dissect(net, (3, 8, 8), max_pool=max_pool, readout=readout)
    calls = shapes_of_calls(net, torch.rand(1, 3, 8, 8))
    for path, module in net.named_modules():
        if not list(module.children()):
            assert [one.shape for one in anatomy.operations if one.name == path] == calls[path], path
    layers = [one.layer for one in anatomy.operations if one.layer]
    assert sorted(layers) == sorted(anatomy.snn.layers)
    for one in anatomy.operations:
        if one.layer:  # the shape of a layer is that of the operation which it stands for
            assert tuple(anatomy.graph.shapes((3, 8, 8))[anatomy.node_of_layer[one.layer]]) == one.shape


def test_each_operation_is_told_what_it_becomes():
    anatomy = dissect(Residual(), (3, 8, 8), readout="current")
    becomes = {one.name: one.becomes for one in anatomy.operations}
    told = {
        "stem": "weights of stem",
        "norm": "folded into stem",
        "pool": "max unit by counts",
        "right": "weights of right",
        "narrow": "current without neurons, read by MACs",
        "wide": "weights of wide",
        "cap": "neurons wide, capped at 6",
        "drop": "dropped: does nothing at test",
        "mean": "neurons that average, mean",
        "out": "read-out by summed current",
        "classes": "dropped: the largest output stays the largest",
    }
    assert {name: becomes[name] for name in told} == told
    assert [one.becomes for one in anatomy.operations if one.name == "cap"] == ["neurons wide, capped at 6"]
    assert [one.what for one in anatomy.operations if one.name in ("stem", "pool", "cap")] == [
        "Conv2d 3x3", "MaxPool2d 2x2", "ReLU, at most 6",
    ]  # fmt: skip


def test_the_network_keeps_its_weights_and_its_mode():
    net = Residual().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    dissect(net, (3, 8, 8))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_cannot_be_converted_is_refused_by_name():
    with pytest.raises(InputError, match="layer '1', a Sigmoid, cannot be converted"):
        dissect(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(2, 2)), (1, 3, 3))
    with pytest.raises(InputError, match=r"\(1, 3, 3\)"):
        dissect(Residual(), (1, 3, 3))


def test_the_wiring_of_a_conversion_is_what_it_was_given_or_its_own_default():
    usual = {"fold_dropout": True, "spiking_pools": True, "max_pool": "count", "readout": "counts"}
    assert wiring_of(percentile_norm) == usual
    current = partial(percentile_norm, q=0.9, readout="current")
    assert wiring_of(current) == usual | {"readout": "current"}
    assert wiring_of(partial(calibrate_bias, norm=current)) == usual | {"readout": "current"}
    assert wiring_of(qcfs_thresholds) == usual | {"readout": "current", "spiking_pools": False}
    assert wiring_of(lambda net, images: None) == usual
