"""A training whose loss or weights are not finite stops in one line, and nothing of it is kept as finished."""

import functools

import pytest
import torch
from small_training import parts
from torch import nn

from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.system.files import read_csv
from respike.training.classifier import Classifier
from respike.training.divergence import not_finite
from respike.training.fit import fit_once, give_weights, load_weights


def stopped(tmp_path, trainer, module, cfg, data, words):
    """The training ends in one line with these words; returns the epochs that are kept for the same command."""
    with pytest.raises(InputError, match=words) as caught:
        fit_once(cfg, trainer, module, data)
    assert "\n" not in str(caught.value) and "recipe.optimizer.lr" in str(caught.value)
    assert not list((tmp_path / "stages").glob("*/model.ckpt"))
    (unfinished,) = (tmp_path / "stages").glob("*.unfinished")
    history = unfinished / "history.csv"
    assert history.is_file() == (unfinished / "last.ckpt").is_file()
    return read_csv(history)["epoch"].tolist() if history.is_file() else []


def test_too_high_a_learning_rate_stops_at_the_step_whose_loss_is_not_finite(tmp_path):
    cfg, trainer, module, data = parts(tmp_path)
    module.make_optimizer = functools.partial(torch.optim.SGD, lr=1e30)
    assert stopped(tmp_path, trainer, module, cfg, data, r"in epoch 1, at step \d, the loss is (nan|inf)") == []
    assert trainer.global_step < trainer.num_training_batches


class Spoiled(Classifier):
    """A weight, or a running average, becomes infinite in the last step of the second epoch."""

    name: str

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.current_epoch == 1 and self.trainer.is_last_batch:
            self.net.get_parameter(self.name).data[0] = torch.inf


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_stop_it_before_they_are_saved(tmp_path):
    cfg, trainer, module, data = parts(tmp_path)
    module.__class__ = Spoiled
    module.name = next(iter(module.net.state_dict()))
    assert stopped(
        tmp_path, trainer, module, cfg, data, rf"in epoch 2, at its end, {module.name} holds nan or inf"
    ) == [1]


def test_running_averages_count_and_masks_do_not():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net.register_buffer("mask", torch.full((2, 2), -torch.inf))
    assert not_finite(net, net.state_dict()) is None
    net[1].running_var[1] = torch.nan
    assert not_finite(net, net.state_dict()) == "1.running_var"
    net[0].bias.data[0] = torch.inf
    assert not_finite(net, net.state_dict()) == "0.bias"


def test_weights_with_nan_are_refused_wherever_they_come_from(tmp_path):
    cfg, trainer, module, data = parts(tmp_path)
    good = MLP([36, 20, 3]).state_dict()
    torch.save(good | {"1.weight": torch.full_like(good["1.weight"], torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"nan\.pt: 1\.weight holds nan or inf"):
        load_weights(module, tmp_path / "nan.pt")
    cfg.update({"ckpt_path": None, "train": False, "model": {"_target_": "mine.Net"}, "recipe": {"epochs": 1}})
    assert give_weights(cfg, trainer, module, data) is None
    next(module.net.parameters()).data[0] = torch.nan
    with pytest.raises(InputError, match="holds nan or inf"):
        give_weights(cfg, trainer, module, data)
