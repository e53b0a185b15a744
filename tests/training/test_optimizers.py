import torch
from torch import nn

from respike.training.optimizers import sgd_kernel_l2


def test_a_step_is_that_of_the_loss_with_the_sum_of_squared_kernels_added():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).double()
    x, start = torch.rand(5, 1, 4, 4, dtype=torch.float64), [p.detach().clone() for p in net.parameters()]
    loss = net(x).square().mean()
    whole = loss + 0.01 * (net[0].weight.square().sum() + net[3].weight.square().sum())
    gradients = torch.autograd.grad(whole, list(net.parameters()), retain_graph=True)
    optimizer = sgd_kernel_l2(net.parameters(), lr=0.1, l2=0.01)
    loss.backward()
    optimizer.step()
    for p, before, gradient in zip(net.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(p.detach(), before - 0.1 * gradient)
