"""What a converted network computes if its neurons are read as ReLUs, and what the original computes layer by layer."""

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def relu_values():
    """relu_values(snn, images) -> the value of each layer, by name, with ReLUs for neurons; pools and output are linear."""

    def evaluate(snn, images):
        values = {"input": images}
        for name, layer in snn.layers.items():
            drive = layer.drive(values)
            values[name] = drive.relu() if layer.kind == "relu" else drive
        return values

    return evaluate


@pytest.fixture(scope="session")
def relu_outputs():
    """relu_outputs(net, images) -> the outputs of the ReLUs and, where it is not one of them, of the net, in order."""

    def evaluate(net, images):
        seen = []
        hooks = [module.register_forward_hook(lambda *call: seen.append(call[-1].detach())) for module in net.modules() if isinstance(module, nn.ReLU)]
        output = net(images).detach()
        for hook in hooks:
            hook.remove()
        return seen if torch.equal(seen[-1], output) else [*seen, output]

    return evaluate
