"""Weights as other trainers save them reach the network, and those of another network are one line."""

import sys

import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.networks.standardize import Standardized
from respike.networks.state_dicts import give_state_dict, read_checkpoint, state_dict_of


def norm_net():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def prefixed(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


SAVED = {  # what somebody's trainer writes of the weights
    "plain": dict,
    "DataParallel": lambda weights: prefixed(weights, "module."),
    "below state_dict": lambda weights: {"state_dict": prefixed(weights, "module."), "best_prec1": 91.78},
    "below model": lambda weights: {"model": weights, "epoch": 3, "optimizer": {"lr": 0.1}},
    "compiled in DataParallel": lambda weights: prefixed(weights, "module._orig_mod."),
    "of a LightningModule": lambda weights: {"state_dict": prefixed(weights, "model."), "epoch": 3},
    "of an old torch": lambda weights: {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("suffix", ["pt", "th"])
@pytest.mark.parametrize("standardize", [False, True])
def test_weights_are_read_from_whatever_holds_them(tmp_path, saved, suffix, standardize):
    """Of the network alone, whether or not data.mean and data.std stand in front of it."""
    source, target = norm_net(), norm_net()
    path = tmp_path / f"net.{suffix}"
    torch.save(SAVED[saved](source.state_dict()), path)
    net = Standardized(target, [0.5, 0.4], [0.2, 0.3]) if standardize else target
    give_state_dict(net, state_dict_of(read_checkpoint(path, "model.path", ""), "model.path=x"), "model.path=x")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_weights_saved_with_the_pixels_of_their_training_keep_them():
    source = Standardized(norm_net(), [0.5, 0.4], [0.2, 0.3])
    target = Standardized(norm_net(), [0.5, 0.4], [0.2, 0.3])
    give_state_dict(target, source.state_dict(), "ckpt_path=x")
    images = torch.rand(2, 2, 4, 4)
    assert torch.equal(source.eval()(images), target.eval()(images))
    with pytest.raises(InputError, match=r"type data\.std=\[0\.2, 0\.3\]"):
        give_state_dict(Standardized(norm_net(), [0.5, 0.4], [0.2, 0.4]), source.state_dict(), "ckpt_path=x")
    with pytest.raises(InputError, match=r"type data\.mean= and data\.std="):
        give_state_dict(norm_net(), source.state_dict(), "ckpt_path=x")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (MLP([4, 3, 2]).state_dict() | {"extra": torch.zeros(1)}, "it has extra"),
        (MLP([4, 3, 3, 2]).state_dict(), r"it has 5\.weight"),
        (MLP([4, 5, 2]).state_dict(), r"1\.weight is \(5, 4\), the network's \(3, 4\)"),
        ({"1.weight": torch.zeros(3, 4)}, r"it lacks 3\.weight"),
        ({"features.0.weight": torch.zeros(3, 4)}, r"it lacks 1\.weight, 3\.weight; it has features\.0\.weight"),
    ],
)
def test_another_network_is_told_by_its_first_tensors(weights, words):
    net = MLP([4, 3, 2])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match=words) as caught:
        give_state_dict(net, weights, "model.path=x.pt")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("model.path=x.pt: ")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_file_without_weights_is_a_line(tmp_path):
    torch.save({"epoch": 3, "history": [1.0]}, tmp_path / "none.pt")
    content = read_checkpoint(tmp_path / "none.pt", "model.path", "")
    with pytest.raises(InputError, match=r"holds no weights \(epoch, history\)"):
        state_dict_of(content, "model.path=none.pt")
    with pytest.raises(InputError, match="no such file; from the authors"):
        read_checkpoint(tmp_path / "absent.pt", "model.path", "from the authors")


def test_a_whole_module_is_refused_unread(tmp_path):
    torch.save(norm_net(), tmp_path / "module.pt")
    with pytest.raises(InputError, match="a state dict is needed"):
        read_checkpoint(tmp_path / "module.pt", "model.path", "")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_safetensors_are_read(tmp_path, prefix):
    written = pytest.importorskip("safetensors.torch", reason="safetensors is in requirements.txt")
    path, source, target = tmp_path / "net.safetensors", norm_net(), norm_net()
    written.save_file(prefixed(source.state_dict(), prefix), path, metadata={"format": "pt"})
    give_state_dict(target, state_dict_of(read_checkpoint(path, "ckpt_path", ""), "ckpt_path=x"), "ckpt_path=x")
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="not a checkpoint, or a damaged one"):
        read_checkpoint(path, "ckpt_path", "")


def test_without_the_package_safetensors_are_a_line(tmp_path, monkeypatch):
    (tmp_path / "net.safetensors").write_bytes(b"\0")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="pip install safetensors"):
        read_checkpoint(tmp_path / "net.safetensors", "model.path", "")
