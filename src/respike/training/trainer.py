"""Attributes of a Lightning Trainer that its class does not declare, with their types."""

from pytorch_lightning import Callback, Trainer

from respike.data.datamodule import ImageDataModule


def data_of(trainer: Trainer) -> ImageDataModule:
    """The data module of the trainer's fit or test."""
    return trainer.datamodule  # type: ignore[attr-defined]


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The trainer's list of callbacks; changes of the list change the trainer."""
    return trainer.callbacks  # type: ignore[attr-defined]
