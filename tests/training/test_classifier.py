"""The authors' two trainers, against a loop written out with their equations."""

import functools

import torch
from torch import nn

from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.losses import half_squared_error


def authors_fc_steps(weights, batches, lr, momentum):
    """nnff, nnbp and nnapplygrads of the authors' toolbox, without dropout: the output error is y - t, not masked."""
    weights, velocity = [w.clone() for w in weights], [torch.zeros_like(w) for w in weights]
    for x, t in batches:
        activations = [x]
        for w in weights:
            activations.append((activations[-1] @ w.T).clamp(min=0))
        delta = activations[-1] - t
        gradients = []
        for i in reversed(range(len(weights))):
            gradients.insert(0, delta.T @ activations[i] / len(x))
            if i:
                delta = (delta @ weights[i]) * (activations[i] > 0)
        for w, v, g in zip(weights, velocity, gradients, strict=True):
            v.mul_(momentum).add_(lr * g)
            w -= v
    return weights


def test_the_fc_recipe_takes_the_authors_steps():
    torch.manual_seed(0)
    net = MLP([6, 5, 4, 3], output_relu="unmasked").double()
    start = [layer.weight.data.clone() for layer in net if isinstance(layer, nn.Linear)]
    labels = [torch.randint(0, 3, (8,)) for _ in range(6)]
    inputs = [torch.rand(8, 6, dtype=torch.float64) for _ in labels]
    module = Classifier(net, half_squared_error, functools.partial(torch.optim.SGD, lr=0.5, momentum=0.5)).train()
    optimizer = module.make_optimizer(net.parameters())
    for x, y in zip(inputs, labels, strict=True):
        optimizer.zero_grad()
        module.loss(module(x), y).backward()
        optimizer.step()
    targets = [torch.eye(3, dtype=torch.float64)[y] for y in labels]
    expected = authors_fc_steps(start, list(zip(inputs, targets, strict=True)), 0.5, 0.5)
    for layer, w in zip((layer for layer in net if isinstance(layer, nn.Linear)), expected, strict=True):
        torch.testing.assert_close(layer.weight.data, w)


def test_start_weights_are_drawn_at_construction_only():
    net = nn.Linear(2, 2)
    Classifier(net, half_squared_error, torch.optim.SGD, init=lambda n: nn.init.constant_(n.weight, 0.25))
    assert (net.weight == 0.25).all()


def test_the_activity_penalty_is_keras_l1_of_every_relu_over_the_batch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.rand(7, 4), torch.randint(0, 3, (7,))
    plain, penalized = (Classifier(net, half_squared_error, torch.optim.SGD, activity_penalty=l1) for l1 in (0, 0.25))
    for module in (plain, penalized):
        module.log_dict = lambda *args, **kwargs: None
        module.train()
    first = net[1](net[0](x))
    activity = (first.sum() + net[3](net[2](first)).sum()) / 7
    penalized.on_train_start()
    for _ in range(2):  # nothing is left over from the batch before
        torch.testing.assert_close(penalized.training_step((x, y), 0), plain.training_step((x, y), 0) + 0.25 * activity)
    penalized.on_train_end()
    assert not any(module._forward_hooks for module in net)
