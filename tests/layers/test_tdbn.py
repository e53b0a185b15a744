"""tdBN: what it normalizes to, what it averages over, alone, in two processes, and folded into a convolution."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from respike.layers.over_time import over_time
from respike.layers.tdbn import TdBN, fold


def currents(dtype=torch.float64, shape=(3, 4, 5, 6, 7)):
    random = torch.Generator().manual_seed(0)
    channels = torch.arange(shape[2], dtype=dtype)[:, None, None]
    return (channels + 1) * torch.randn(shape, dtype=dtype, generator=random) + 3 * channels


@pytest.mark.parametrize("alpha", [1.0, 1 / math.sqrt(2)])
def test_a_channel_is_brought_to_mean_0_and_deviation_alpha_v_th_over_time_and_batch(alpha):
    y = TdBN(5, v_th=0.4, alpha=alpha, eps=0).double()(currents())
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(y.var((0, 1, 3, 4), correction=0).sqrt(), torch.full((5,), alpha * 0.4).double())
    assert not torch.allclose(y[0].mean((0, 2, 3)), torch.zeros(5).double(), atol=1e-3)  # a step alone keeps its mean


def test_two_branches_add_to_the_threshold():
    a, b = currents(), currents().flip(1) * 2 + 1
    y = TdBN(5, 0.4, 1 / math.sqrt(2)).double()(a) + TdBN(5, 0.4, 1 / math.sqrt(2)).double()(b)
    b_free = y.var((0, 1, 3, 4)).sqrt()
    assert ((b_free - 0.4).abs() < 0.06).all()  # independent branches, 504 numbers a channel


def test_it_is_torchs_batch_norm_on_time_folded_into_the_batch():
    """With the weight alpha * v_th: outputs, gradients, running statistics, eval mode."""
    ours, torchs = TdBN(5, 0.4, 0.5).double(), nn.BatchNorm2d(5).double()
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(0.5, 2, 5)), ours.bias.copy_(torch.linspace(-1, 1, 5))
        torchs.weight.copy_(ours.weight * 0.4 * 0.5), torchs.bias.copy_(ours.bias)
    x, x2 = (currents().requires_grad_() for _ in range(2))
    for _ in range(2):
        y, expected = ours(x), over_time(torchs, x2)
        torch.testing.assert_close(y, expected)
    y.pow(3).sum().backward(), expected.pow(3).sum().backward()
    torch.testing.assert_close(x.grad, x2.grad)
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad * 0.4 * 0.5)
    torch.testing.assert_close(ours.bias.grad, torchs.bias.grad)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    torch.testing.assert_close(ours.eval()(x), over_time(torchs.eval(), x))


def test_bfloat16_is_normalized_in_float32():
    x = currents(torch.float32).bfloat16()
    y = TdBN(5, 0.4)(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, TdBN(5, 0.4)(x.float()))


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_with_its_tdbn_folded_in_gives_the_same_currents(bias):
    conv, norm = nn.Conv2d(5, 5, 3, stride=2, padding=1, bias=bias).double(), TdBN(5, 0.4, 0.7).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5)), norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = currents()
    for _ in range(3):
        norm(over_time(conv, x))
    torch.testing.assert_close(over_time(fold(conv, norm), x), norm.eval()(over_time(conv, x)))


RANK = """
import sys
import torch
from torch import distributed
from respike.layers.norm_lif import NormLIF
from respike.layers.tdbn import TdBN
from respike.neurons.lif import LIF

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
whole = torch.load(f"{folder}/whole.pt")
layer = NormLIF(LIF(), TdBN(5, 0.4)).to(whole["x"].dtype)
x = whole["x"][:, (slice(0, 3), slice(3, None))[rank]].requires_grad_()
if sys.argv[3] == "current":
    out = layer.current(x)
else:
    out = layer(x)
weights = whole["weights"][:, (slice(0, 3), slice(3, None))[rank]]
(out * weights).sum().backward()
found = {"out": out.detach(), "x": x.grad, "weight": layer.norm.weight.grad, "bias": layer.norm.bias.grad}
torch.save(found | {"var": layer.norm.running_var, "mean": layer.norm.running_mean}, f"{folder}/{rank}.pt")
"""


@pytest.fixture
def two_ranks(tmp_path):
    """two_ranks(x, weights, what): results of two processes that share the images of x (T, B, ...) as 3 and the rest."""

    def run(x, weights, what):
        torch.save({"x": x, "weights": weights}, tmp_path / "whole.pt")
        (tmp_path / "rank.py").write_text(RANK)
        commands = ([sys.executable, str(tmp_path / "rank.py"), str(r), str(tmp_path), what] for r in range(2))
        processes = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
        errors = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        return [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]

    return run


def test_two_processes_normalize_and_learn_as_one_with_the_whole_batch(two_ranks):
    from respike.layers.norm_lif import NormLIF
    from respike.neurons.lif import LIF

    x, weights = currents(), currents().flip(0).cos()
    parts = two_ranks(x, weights, "current")
    layer = NormLIF(LIF(), TdBN(5, 0.4)).double()
    alone = x.clone().requires_grad_()
    out = layer.current(alone)
    (out * weights).sum().backward()
    torch.testing.assert_close(torch.cat([part["out"] for part in parts], 1), out.detach())
    torch.testing.assert_close(torch.cat([part["x"] for part in parts], 1), alone.grad)
    torch.testing.assert_close(sum(part["weight"] for part in parts), layer.norm.weight.grad)
    torch.testing.assert_close(sum(part["bias"] for part in parts), layer.norm.bias.grad)
    for part in parts:
        torch.testing.assert_close(part["var"], layer.norm.running_var)
        torch.testing.assert_close(part["mean"], layer.norm.running_mean)
