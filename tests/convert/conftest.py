"""What a converted network computes if its neurons are read as ReLUs, and what the original computes, layer by layer."""

import pytest
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
    """relu_outputs(net, images) -> what each ReLU of the network returned, in order."""

    def evaluate(net, images):
        seen, relus = [], [module for module in net.modules() if isinstance(module, nn.ReLU)]
        hooks = [relu.register_forward_hook(lambda *call: seen.append(call[-1].detach())) for relu in relus]
        net(images)
        for hook in hooks:
            hook.remove()
        return seen

    return evaluate
