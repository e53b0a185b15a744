"""Lightning's Trainer gets what the data module serves: every epoch in its own order, also of a resumed training."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet

TRAIN, TEST = 103, 27


def module(**arguments):
    """Every label is the number of its image."""
    train, test = (torch.zeros(count, 1, 2, 2, dtype=torch.uint8) for count in (TRAIN, TEST))
    images = ImageSet("numbered", train, torch.arange(TRAIN), test, torch.arange(TEST), tuple(map(str, range(TRAIN))))
    return ImageDataModule(lambda root: images, "here", batch_size=10, **arguments)


def served(loader, epoch=None):
    """The numbers of all images of one epoch, in order."""
    if epoch is not None:
        loader.sampler.set_epoch(epoch)
    return [number for _, y in loader for number in y.tolist()]


class Recorder(pl.LightningModule):
    """Writes down what it is given; its one weight never matters."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.tested = {}, [], []

    def training_step(self, batch, _):
        self.trained.setdefault(self.current_epoch, []).extend(batch[1].tolist())
        return self.weight * 0

    def validation_step(self, batch, _):
        self.validated.extend(batch[1].tolist())

    def test_step(self, batch, _):
        self.tested.extend(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, epochs, **arguments):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **arguments,
    )


@pytest.mark.filterwarnings("error:.*workers")
def test_lightning_trains_validates_and_tests_on_what_is_served(tmp_path):
    data, model = module(val_size=20, eval_batch_size=8), Recorder()
    run = trainer(tmp_path, 2, num_sanity_val_steps=0)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data)
    loader = data.train_dataloader()
    assert model.trained == {epoch: served(loader, epoch) for epoch in (0, 1)}
    assert model.validated == served(data.val_dataloader()) * 2
    assert model.tested == list(range(TEST))


@pytest.mark.filterwarnings("error:.*is zero")
def test_a_resumed_training_sees_the_order_of_an_uninterrupted_one(tmp_path):
    whole, begun, resumed = Recorder(), Recorder(), Recorder()
    trainer(tmp_path, 4).fit(whole, datamodule=module())
    first = trainer(tmp_path, 2)
    first.fit(begun, datamodule=module())
    first.save_checkpoint(tmp_path / "two.ckpt")
    trainer(tmp_path, 4).fit(resumed, datamodule=module(), ckpt_path=tmp_path / "two.ckpt")
    assert begun.trained | resumed.trained == whole.trained
    assert list(resumed.trained) == [2, 3]
    assert len({tuple(order) for order in whole.trained.values()}) == 4, "Lightning must announce each epoch"


def test_overfit_batches_repeats_the_first_batches(tmp_path):
    model = Recorder()
    trainer(tmp_path, 2, overfit_batches=3).fit(model, datamodule=module())
    assert model.trained[0] == model.trained[1] == served(module().train_dataloader(), 0)[:30]
