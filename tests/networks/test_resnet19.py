"""The spiking ResNet-19: its size, an independent loop of the published equations, folding, steps, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.errors import InputError
from respike.layers.neuron_layer import NeuronLayer
from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.lif import LIF
from respike.neurons.surrogate import Rectangle, Triangle

SMALL = {"width_mult": 1 / 16, "hidden": 24, "input_shape": (1, 12, 12)}


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def small(seed=0, **chosen):
    """A narrow network in float64, all of whose layers fire; norms with weights of their own."""
    torch.manual_seed(seed)
    net = SpikingResNet19(**(SMALL | chosen)).double()
    for name, parameter in net.named_parameters():
        if "norm" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
        elif name.startswith("fc"):
            parameter.data *= 6
    return net


def images(count=6, shape=(1, 12, 12)):
    return torch.rand(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 0.5


def recorded(net, x):
    """Spikes of every spiking layer by name, and the logits."""
    found, hooks = {}, []
    for name, layer in net.spiking_layers().items():
        hooks.append(layer.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.detach()})))
    logits = net(x)
    for hook in hooks:
        hook.remove()
    return found, logits


def test_the_published_sizes():
    """12.63 M with the repository's 64 channels in front; with the paper's 128 the first shortcut keeps its shape."""
    assert parameters(SpikingResNet19()) == 12_629_706
    paper = SpikingResNet19(stem=128, input_shape=(3, 32, 32))
    assert parameters(paper) == 12_629_706 - 8192 - 256 + 73_728 + 2 * 64 - 576 + 128 * 27
    assert len(paper.spiking_layers()) == 19


def loop(net, x, v_th=0.4, tau=0.25, fires=lambda u: (u > 0.4).to(u)):
    """The published MNIST network from its equations: one layer after the other, step by step; all spikes (T, B, ...)."""
    found = []

    def tdbn(steps, norm, alpha):
        y = torch.stack(steps)
        mean = y.mean((0, 1, 3, 4), keepdim=True)
        var = ((y - mean) ** 2).mean((0, 1, 3, 4), keepdim=True)
        hat = alpha * v_th * (y - mean) / torch.sqrt(var + 1e-5)
        return [h * norm.weight[:, None, None] + norm.bias[:, None, None] for h in hat]

    def lif(steps):
        u = o = torch.zeros_like(steps[0])
        spikes = []
        for x_t in steps:
            u = tau * u * (1 - o) + x_t
            o = fires(u)
            spikes.append(o)
        found.append(torch.stack(spikes))
        return spikes

    def convolved(steps, conv, stride=1):
        pad = conv.weight.shape[-1] // 2
        return [F.conv2d(s, conv.weight, stride=stride, padding=pad) for s in steps]

    x = lif(tdbn(convolved([x] * 2, net.stem), net.fire.norm, 1))
    for i, block in enumerate(net.blocks):
        stride = 2 if i in (3, 6) else 1
        out = lif(tdbn(convolved(x, block.conv1, stride), block.fire1.norm, 1))
        out = tdbn(convolved(out, block.conv2), block.fire2.norm, 2**-0.5)
        if i in (0, 3, 6):
            x = tdbn(convolved(x, block.shortcut, stride), block.fire2.shortcut_norm, 2**-0.5)
        x = lif([a + b for a, b in zip(out, x, strict=True)])
    x = lif([F.linear(s.mean((2, 3)), net.fc1.weight, net.fc1.bias) for s in x])
    x = lif([F.linear(s, net.fc2.weight, net.fc2.bias) for s in x])
    return found, sum(x) / 2


def test_it_is_the_published_network_spike_for_spike_in_training():
    net = small(width_mult=1 / 8)
    found, logits = recorded(net, images(8))
    expected, mean = loop(net, images(8))
    assert len(expected) == 19 and all(0 < float(spikes.mean()) < 0.95 for spikes in expected)
    for (name, spikes), right in zip(found.items(), expected, strict=True):
        assert torch.equal(spikes, right), name
    assert torch.equal(logits, mean)


@pytest.mark.parametrize("centre", ["threshold", "zero"])
def test_its_gradients_are_those_of_the_published_network(centre):
    net = small(neuron=LIF(surrogate=Rectangle(0.5, centre=centre)))
    labels = torch.arange(6)
    F.cross_entropy(net(images()), labels).backward()
    ours = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()

    class SpikeAct(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return u.gt(0.4).to(u)

        @staticmethod
        def backward(ctx, gradient):
            (u,) = ctx.saved_tensors
            return gradient * ((u - 0.4 * (centre == "threshold")).abs() < 0.5) / (2 * 0.5)

    _, logits = loop(net, images(), fires=SpikeAct.apply)
    F.cross_entropy(logits, labels).backward()
    assert float(ours["stem.weight"].abs().max()) > 0
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, msg=name)


def test_the_folded_network_gives_the_same_spikes():
    net = small()
    for _ in range(20):
        net(images())
    net.eval()
    folded = net.folded()
    assert parameters(folded) < parameters(net) and net.fire.norm is not folded.fire.norm
    found, expected = recorded(folded, images())[0], recorded(net, images())[0]
    for name, spikes in expected.items():
        assert torch.equal(found[name], spikes), name
    assert 0 < float(expected["fc1"].mean()) < 1


def test_step_by_step_gives_the_spikes_of_all_steps_at_once():
    net = small(steps=5)
    for _ in range(20):
        net(images())
    net.eval()
    whole, states = net.spikes(images()), {}
    parts = [net.spikes(images(), steps, states) for steps in (1, 1, 2, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole[0], whole[1])
    assert torch.equal(net(images()), whole.mean(0))


def test_all_of_its_neurons_are_the_chosen_one():
    net = small(neuron=LIF(v_th=0.7, tau=0.5, surrogate=Triangle(2.0), reset="subtract", detach_reset=True))
    neurons = {layer.neuron for layer in net.modules() if isinstance(layer, NeuronLayer)}
    assert [str(neuron) for neuron in neurons] == [
        "LIF(v_th=0.7, tau=0.5, surrogate=Triangle(centre='threshold', a=2.0), reset='subtract', detach_reset=True)"
    ]
    gains = [module.norm.gain for module in net.modules() if hasattr(module, "norm")]
    assert gains[:3] == [0.7, 0.7, pytest.approx(0.7 / math.sqrt(2))]


def test_start_weights_are_those_of_the_repository():
    """Normal of variance 2 / fan_out for convolutions, 1 and 0 for norms."""
    net = SpikingResNet19()
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        fan_out = conv.weight.shape[0] * conv.weight[0, 0].numel()
        assert float(conv.weight.detach().var()) * fan_out / 2 == pytest.approx(1, abs=0.2)
    assert float(net.blocks[0].fire2.norm.weight.mean()) == 1 and float(net.blocks[0].fire2.norm.bias.abs().max()) == 0


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14), (2, 4, 4)])
def test_odd_sides_are_halved_upwards(shape):
    found, _ = recorded(small(input_shape=shape), images(2, shape))
    _, height, width = shape
    assert found["block8.2"].shape[-2:] == (-(-height // 4), -(-width // 4))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"steps": 0}, r"model\.steps=0: .* model\.steps=2"),
        ({"input_shape": (1, 3, 28)}, r"images of shape \[1, 3, 28\]: .* 4 or more pixels for 2 strides"),
        ({"input_shape": (28, 28)}, r"images of shape \[28, 28\]"),
        ({"width_mult": 0.001}, r"model\.width_mult=0\.001: "),
        ({"width_mult": -1}, r"model\.width_mult=-1: "),
        ({"blocks": ()}, r"model\.blocks=\[\]: "),
        ({"blocks": (3, 0)}, r"model\.blocks=\[3, 0\]: "),
        ({"stem": 0}, r"model\.stem=0: "),
        ({"alpha": 0.0}, r"model\.alpha=0\.0: "),
    ],
)
def test_nonsense_is_refused_in_one_line(wrong, line):
    with pytest.raises(InputError, match=line):
        SpikingResNet19(**wrong)


def test_images_that_the_strides_leave_nothing_of_are_refused_too():
    net = SpikingResNet19(width_mult=1 / 16)
    with pytest.raises(InputError, match=r"\[1, 28, 3\]: .* 4 or more pixels for 2 strides"):
        net(torch.zeros(1, 1, 28, 3))


def test_the_names_of_its_weights_are_those_of_earlier_checkpoints():
    """conv, tdBN and FC weights by these names; neurons have none, and a block without a 1x1 convolution no third tdBN."""
    names = set(SpikingResNet19(width_mult=1 / 16, blocks=[1, 2]).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var")
    expected = {"stem.weight", *(f"fire.norm.{name}" for name in norm)}
    for i in range(3):
        expected |= {f"blocks.{i}.conv1.weight", f"blocks.{i}.conv2.weight"}
        expected |= {f"blocks.{i}.fire{j}.norm.{name}" for j in (1, 2) for name in norm}
    for i in (0, 1):
        expected |= {f"blocks.{i}.shortcut.weight", *(f"blocks.{i}.fire2.shortcut_norm.{name}" for name in norm)}
    assert names == expected | {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
