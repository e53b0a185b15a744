"""What the figure callbacks of all methods share: sample images, the training, confusion matrices; saving and logging."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from respike.callbacks.log import log_confusion, log_figure
from respike.data.datamodule import first_or_spread
from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.figures.confusion import chosen_steps, confusion_charts, percent
from respike.figures.images import samples
from respike.figures.style import save
from respike.figures.training import training_progress
from respike.metrics.confusion import confusion, row_shares
from respike.simulate.record import SpikeRecord
from respike.system.files import read_csv
from respike.training.trainer import callbacks_of, data_of

SAMPLES = 12
Simulation = TypeVar("Simulation", bound=Callback)


def check_image(trainer: Trainer, image: int) -> None:
    """Raise InputError if the run has no test image of this number."""
    count = len(data_of(trainer).index["test"])
    if not 0 <= image < count:
        raise InputError(f"callbacks.figures.image={image}: 0 to {count - 1}, the test images of this run")


def simulation_of(trainer: Trainer, kind: type[Simulation]) -> Simulation:
    """The trainer's callback of this class."""
    return next(callback for callback in callbacks_of(trainer) if isinstance(callback, kind))


def class_names(trainer: Trainer, outputs: int) -> list[str]:
    """A name for each of the network's outputs. A network may have more outputs than the data has classes."""
    names = list(data_of(trainer).images.classes)
    return names + [f"output {c}" for c in range(len(names), outputs)]


def data_and_training(trainer: Trainer, published: Sequence[float] | None = None) -> dict[str, Figure]:
    """The figures "samples", of sorted test images some of every class, and "training" if the run has a training.

    published: validation accuracies after each epoch, drawn beside those of the training.
    """
    data = data_of(trainer)
    labels = data.labels("test")
    chosen = first_or_spread(labels, SAMPLES)
    names = [data.images.classes[label] for label in labels[chosen].tolist()]
    figures = {"samples": samples(to_unit(data.images.test_images[data.index["test"][chosen]]), names)}
    history = read_history(trainer)
    if history:
        figures["training"] = training_progress(history, published)
    return figures


def read_history(trainer: Trainer) -> dict[str, list[float]]:
    """The columns of the run's training.csv; {} if the run has no training."""
    path = Path(trainer.default_root_dir, "training.csv")
    if not path.is_file():
        return {}
    return {str(name): column.tolist() for name, column in read_csv(path).items()}


def confusion_over_steps(trainer: Trainer, record: SpikeRecord) -> Figure:
    """Confusion matrices of all test images after a few steps; the last one is also logged as a chart."""
    labels = data_of(trainer).labels("test")
    classes = class_names(trainer, record.counts.shape[1])
    log_confusion(trainer, "confusion", labels, record.predicted[-1], classes)
    matrices = {}
    for step in (step for step in chosen_steps(record.steps) if step > record.read_from):
        predicted = record.predicted[step - 1].long()
        matrices[f"step {step}: {accuracy(predicted, labels)}"] = row_shares(confusion(labels, predicted, len(classes)))
    return confusion_charts(matrices, classes)


def accuracy(predicted: Tensor, labels: Tensor) -> str:
    """The accuracy of predicted classes (B,), as text in percent."""
    return percent(float((predicted.long() == labels.long()).double().mean()))


def save_figures(trainer: Trainer, figures: Mapping[str, Figure]) -> Path:
    """Write figures/<name>.png in the run's folder and log them. Returns the folder."""
    folder = Path(trainer.default_root_dir, "figures")
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
        log_figure(trainer, name, folder / f"{name}.png")
    return folder
