"""Two processes that share a batch."""

import subprocess
import sys

import pytest
import torch

RANK = """
import sys
import torch
from torch import distributed
from respike.layers.norm_neuron import NormNeuron
from respike.layers.tdbn import TdBN
from respike.neurons.lif import LIF

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
whole = torch.load(f"{folder}/whole.pt")
layer = NormNeuron(LIF(), TdBN(5, 0.4)).to(whole["x"].dtype)
x = whole["x"][:, (slice(0, 3), slice(3, None))[rank]].requires_grad_()
if sys.argv[3] == "current":
    out = layer.current(x)
else:
    out = layer(x)
weights = whole["weights"][:, (slice(0, 3), slice(3, None))[rank]]
(out * weights).sum().backward()
found = {"out": out.detach(), "x": x.grad, "weight": layer.norm.weight.grad, "bias": layer.norm.bias.grad}
torch.save(found | {"var": layer.norm.running_var, "mean": layer.norm.running_mean}, f"{folder}/{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
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
