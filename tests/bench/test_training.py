"""SpikingJelly's ResNet-19 is the same network as ours, and the timed steps train it."""

import pytest
import torch
import torch.nn.functional as F

from respike.bench import training
from respike.networks.resnet19 import SpikingResNet19


def test_spikingjellys_network_has_our_logits_and_gradients():
    pytest.importorskip("spikingjelly", reason="spikingjelly is in requirements-bench.txt only")
    from respike.bench.peers.spikingjelly import resnet19

    torch.manual_seed(0)
    ours = SpikingResNet19(width_mult=1 / 8, input_shape=(1, 12, 12)).double()
    ours.fc1.weight.data *= 6
    ours.fc2.weight.data *= 6
    peer, images, labels = resnet19(ours).double(), torch.randn(6, 1, 12, 12).double(), torch.arange(6)
    for net in (ours, peer):
        F.cross_entropy(net(images), labels).backward()
    assert float(ours(images).detach().std()) > 0.1
    assert torch.equal(ours(images), peer(images))
    torch.testing.assert_close(peer.stem[0].weight.grad, ours.stem.weight.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bf16", [False, True])
def test_its_steps_train_and_are_measured(bf16):
    net = SpikingResNet19(width_mult=1 / 16)
    before = net.blocks[0].conv1.weight.detach().clone()
    found = training.time_steps(net, batch=3, timed=2, bf16=bf16, warm_up=1)
    assert not torch.equal(net.blocks[0].conv1.weight, before)
    assert found["runs"] == 2 and found["seconds_min"] <= found["seconds"] <= found["seconds_max"]
    assert found["images_per_second"] == pytest.approx(3 / found["seconds"]) and found["mib_per_image"] >= 0
