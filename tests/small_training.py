"""A training of four epochs on random images, which takes half a second."""

import functools

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.losses import half_squared_error


def image_set(root):
    """Sixty random 6x6 images of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 6, 6), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    return ImageSet("noise", images, labels, images[:30], labels[:30], ("a", "b", "c"), None)


def parts(tmp_path, epochs=4, callbacks=()):
    """The arguments of `fit_once`: config, trainer, module, data."""
    torch.manual_seed(0)
    net = MLP([36, 20, 3], dropout=0.5, output_relu="unmasked")
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5)
    module = Classifier(net, half_squared_error, optimizer, seed=3)
    data = ImageDataModule(image_set, root="", batch_size=7, seed=1)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
    )
    cfg = OmegaConf.create(
        {
            "data": {"root": "x", "batch_size": 7},
            "model": {},
            "lit": {"seed": 3},
            "trainer": {"max_epochs": epochs},
            "seed": 3,
            "paths": {"stages": str(tmp_path / "stages")},
            "simulate": {"threshold": 1},
        }
    )
    return cfg, trainer, module, data
