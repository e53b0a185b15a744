"""Early stopping, the epoch that is kept, and both after an interruption."""

import csv
import functools

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.early_stopping import EarlyStoppingSettings
from respike.training.fit import fit_once


def noise(root):
    """Images that tell nothing about their label: the validation loss soon rises."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (90, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return ImageSet("noise", images, torch.arange(90) % 3, images[:30], torch.arange(30) % 3, ("a", "b", "c"), None)


class Interrupt(pl.Callback):
    """As Ctrl-C, in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 2:
            raise KeyboardInterrupt


def fitted(folder, callbacks=(), **recipe):
    torch.manual_seed(0)
    module = Classifier(
        MLP([36, 40, 3], output_relu="none"),
        torch.nn.functional.cross_entropy,
        functools.partial(torch.optim.Adam, lr=0.01),
    )
    trainer = pl.Trainer(
        max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=list(callbacks),
    )  # fmt: skip
    blocks = {"data": {}, "model": {}, "lit": {}, "trainer": {"max_epochs": 20}, "recipe": recipe}
    cfg = OmegaConf.create(blocks | {"seed": 0, "paths": {"stages": str(folder / "stages")}})
    data = ImageDataModule(noise, root="", batch_size=10, val_size=30)
    stage = fit_once(cfg, trainer, module, data)
    with (stage.folder / "history.csv").open() as file:
        return module, [float(row["val_loss"]) for row in csv.DictReader(file)], stage, data


def loss_of(module, data):
    module.eval()
    with torch.no_grad():
        return float(module.loss(module(torch.cat([x for x, _, _ in data.batches("val", 30)])), data.labels("val")))


def test_training_ends_after_so_many_epochs_without_a_lower_loss_and_keeps_the_best(tmp_path):
    module, losses, stage, data = fitted(tmp_path, patience=3, keep="best")
    best = losses.index(min(losses))
    assert len(losses) == best + 4 < 20
    assert loss_of(module, data) == pytest.approx(min(losses), abs=1e-6)
    assert not (stage.folder / "best.ckpt").exists()
    assert EarlyStoppingSettings(3, "best").kept_epoch(stage.folder / "history.csv")["epoch"] == best + 1


def test_the_last_epoch_is_kept_where_a_recipe_says_nothing(tmp_path):
    module, losses, stage, data = fitted(tmp_path)
    assert len(losses) == 20 and loss_of(module, data) == pytest.approx(losses[-1], abs=1e-6) != min(losses)
    assert EarlyStoppingSettings().kept_epoch(stage.folder / "history.csv")["epoch"] == 20


@pytest.mark.parametrize("epoch", [1, 4])
def test_an_interrupted_training_counts_its_patience_on_and_remembers_its_best(tmp_path, epoch):
    whole, losses, *_ = fitted(tmp_path / "whole", patience=4, keep="best")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fitted(tmp_path / "cut", [Interrupt(epoch)], patience=4, keep="best")
    module, again, *_ = fitted(tmp_path / "cut", patience=4, keep="best")
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), whole.parameters(), strict=True))


class Killed(pl.Callback):
    """As a power cut, when the training has ended and its stage is not yet whole."""

    def on_fit_end(self, trainer, pl_module):
        raise RuntimeError("power cut")


def test_a_training_killed_after_its_last_epoch_trains_no_further(tmp_path):
    _, losses, *_ = fitted(tmp_path / "whole", patience=2, keep="best")
    with pytest.raises(RuntimeError, match="power cut"):
        fitted(tmp_path / "cut", [Killed()], patience=2, keep="best")
    assert fitted(tmp_path / "cut", patience=2, keep="best")[1] == losses


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"patience": 0}, "recipe.patience=0: "),
        ({"patience": 1.5}, "recipe.patience=1.5: "),
        ({"keep": "first"}, "recipe.keep=first"),
    ],
)
def test_nonsense_is_refused(wrong, line):
    with pytest.raises(InputError, match=line):
        EarlyStoppingSettings(**wrong)


def test_what_looks_at_validation_needs_validation_images():
    data = ImageDataModule(noise, root="", batch_size=10)
    EarlyStoppingSettings().check(data)
    for settings in (EarlyStoppingSettings(patience=7), EarlyStoppingSettings(keep="best")):
        with pytest.raises(InputError, match=r"data\.val_size=6000"):
            settings.check(data)
