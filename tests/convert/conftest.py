"""The values of each layer of a converted network with ReLUs in place of neurons, and of the original network."""

import pytest
from torch import nn


@pytest.fixture(scope="session")
def relu_values():
    """relu_values(snn, images) -> the value of each layer by name, with ReLUs in place of neurons; pools and output linear."""

    def evaluate(snn, images):
        values = {"input": images}
        for name, layer in snn.layers.items():
            drive = layer.drive(values)
            values[name] = drive.relu() if layer.kind == "relu" else drive
        return values

    return evaluate


@pytest.fixture(scope="session")
def relu_outputs():
    """relu_outputs(net, images) -> the output of each ReLU of the network, in order."""

    def evaluate(net, images):
        seen, relus = [], [module for module in net.modules() if isinstance(module, nn.ReLU)]
        hooks = [relu.register_forward_hook(lambda *call: seen.append(call[-1].detach())) for relu in relus]
        net(images)
        for hook in hooks:
            hook.remove()
        return seen

    return evaluate
