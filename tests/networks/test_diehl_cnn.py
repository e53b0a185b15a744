"""The convolutional network: published sizes, and its function against plain NumPy."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from respike.errors import InputError
from respike.networks.diehl_cnn import DiehlCNN


def weights(net):
    return [module.weight.detach().numpy() for module in net if isinstance(module, nn.Conv2d | nn.Linear)]


def test_the_published_network_has_weights_only():
    net = DiehlCNN()
    assert all(name.endswith("weight") for name, _ in net.named_parameters())
    assert sum(p.numel() for p in net.parameters()) == 12 * 25 + 64 * 12 * 25 + 1024 * 10


def test_pools_of_stride_1_give_the_20736_inputs_of_the_mathworks_example():
    net = DiehlCNN(pool_stride=1)
    sides = [nn.Sequential(*list(net)[:stop])(torch.zeros(1, 1, 28, 28)).shape[-1] for stop in (1, 3, 4, 6)]
    assert sides == [24, 23, 19, 18]
    assert net[-2].in_features == 20736


def pooled(maps, pool, stride):
    """Mean over windows of pool x pool, (C, H, W)."""
    rows, columns = ((side - pool) // stride + 1 for side in maps.shape[1:])
    corners = [(y * stride, x * stride) for y in range(rows) for x in range(columns)]
    means = [maps[:, y : y + pool, x : x + pool].mean((1, 2)) for y, x in corners]
    return np.stack(means, axis=1).reshape(len(maps), rows, columns)


@pytest.mark.parametrize(
    ("shape", "pool", "stride"), [((1, 28, 28), 2, None), ((2, 25, 28), 3, None), ((1, 16, 17), 2, 1)]
)
@pytest.mark.parametrize("output_relu", ["masked", "none"])
def test_it_computes_convolutions_relus_and_means(shape, pool, stride, output_relu):
    torch.manual_seed(0)
    net = DiehlCNN((3, 4), 5, pool, stride, shape, classes=6, output_relu=output_relu).double()
    images = torch.rand(2, *shape, dtype=torch.float64)
    *kernels, matrix = weights(net)
    for image, ours in zip(images.numpy(), net(images).detach().numpy(), strict=True):
        maps = image
        for kernel in kernels:
            sums = [sum(correlate2d(m, k, "valid") for m, k in zip(maps, row, strict=True)) for row in kernel]
            maps = pooled(np.stack(sums).clip(min=0), pool, stride or pool)
        output = matrix @ maps.ravel()
        np.testing.assert_allclose(
            ours, output.clip(min=0) if output_relu == "masked" else output, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("side", [4, 9, 15])
def test_images_too_small_for_it_are_refused(side):
    with pytest.raises(InputError, match=rf"^model\.channels=\[12, 64\].*{side}x{side} pixels"):
        DiehlCNN(input_shape=(1, side, side))
    assert DiehlCNN(input_shape=(1, 16, 16))[-2].in_features == 64
