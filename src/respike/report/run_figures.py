"""The figures of a single run, drawn when its simulation is done."""

import csv
from pathlib import Path

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.convert import converted
from respike.callbacks.log import log_confusion, log_figure, log_film, log_lines
from respike.callbacks.simulate import Simulate
from respike.errors import InputError
from respike.metrics.activity import firing_rates as rates_of
from respike.metrics.confusion import confusion, row_shares
from respike.ranks import rank
from respike.report.confusion_figures import chosen_steps, confusion_charts, save_confusion_film
from respike.report.figures import accuracy_and_agreement, firing_rates, save
from respike.report.image_figures import samples, spike_images
from respike.report.progress_figures import output_counts, training_progress

SAMPLES = 12
SPIKE_STEPS = 3  # of which the input spikes are shown


class RunFigures(Callback):
    """At the end of the test, after `Simulate`: pictures of the run in figures/, also to the logger.

    image: number of the test image whose spikes are shown, from 0; film: also the confusion after every step, a GIF.
    """

    def __init__(self, image: int = 0, film: bool = True):
        self.image, self.film = image, film

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an image that is not there before anything is simulated."""
        count = len(trainer.datamodule.index["test"])
        if not 0 <= self.image < count:
            raise InputError(f"callbacks.figures.image={self.image}: 0 to {count - 1}, the test images of this run")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        folder = Path(trainer.default_root_dir, "figures")
        folder.mkdir(parents=True, exist_ok=True)
        simulated = next(callback for callback in trainer.callbacks if isinstance(callback, Simulate))
        figures = {
            "accuracy": accuracy_and_agreement(simulated.columns),
            "firing_rates": firing_rates(rates_of(simulated.record)),
            **self._of_images(trainer, simulated),
            **_of_classes(trainer, simulated),
            **_of_training(Path(trainer.default_root_dir, "training.csv")),
        }
        for name, figure in figures.items():
            save(figure, folder / f"{name}.png")
            log_figure(trainer, name, folder / f"{name}.png")
        if self.film:
            path, labels = folder / "confusion.gif", trainer.datamodule.labels("test")
            save_confusion_film(simulated.record.predicted, labels, _classes(trainer, simulated), path)
            log_film(trainer, "confusion_film", path)

    def _of_images(self, trainer: Trainer, simulated: Simulate) -> dict[str, Figure]:
        data, number = trainer.datamodule, torch.tensor([self.image])
        names = [data.images.classes[label] for label in data.labels("test").tolist()]
        pixels = data.images.test_images
        drawn = {"samples": samples(pixels[:SAMPLES][: len(names)] / 255, names[:SAMPLES])}
        snn, image = converted(trainer), pixels[number].to(trainer.strategy.root_device)
        trace = simulated.simulate(snn, image, index=number, trace=[self.image]).traces[self.image]
        spikes, steps = trace.spikes["input"].cpu(), simulated.record.steps
        shown = [round(steps * k / SPIKE_STEPS) for k in range(1, SPIKE_STEPS + 1) if steps >= SPIKE_STEPS]
        if "input" in simulated.record.spikes:  # an analog input is the image itself
            drawn["spikes"] = spike_images(pixels[self.image] / 255, spikes, f"a {names[self.image]}", shown)
        counts = trace.spikes[snn.output].flatten(1).cumsum(0).long().cpu()  # (T, C)
        classes = _classes(trainer, simulated)
        label = int(data.labels("test")[self.image])
        drawn["output_spikes"] = output_counts(counts, label, classes, f"test image {self.image}, a {classes[label]}")
        lines = {name: counts[:, c].tolist() for c, name in enumerate(classes)}
        log_lines(trainer, "output_spikes", range(1, steps + 1), lines, "step")
        return drawn


def _classes(trainer: Trainer, simulated: Simulate) -> list[str]:
    """A name for every output: a network may have more of them than the data has classes."""
    names = list(trainer.datamodule.images.classes)
    return names + [f"output {c}" for c in range(len(names), simulated.record.counts.shape[1])]


def _of_classes(trainer: Trainer, simulated: Simulate) -> dict[str, Figure]:
    labels, classes = trainer.datamodule.labels("test"), _classes(trainer, simulated)
    record = simulated.record
    log_confusion(trainer, "confusion", labels, record.predicted[-1], classes)
    charts = {
        f"step {step}: {100 * simulated.columns['acc'][step - 1]:.2f} %": row_shares(
            confusion(labels, record.predicted[step - 1], len(classes))
        )
        for step in chosen_steps(record.steps)
    }
    return {"confusion": confusion_charts(charts, classes)}


def _of_training(history: Path) -> dict[str, Figure]:
    """Nothing for a run that trained nothing."""
    if not history.is_file():
        return {}
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]} if rows else {}
    return {"training": training_progress(columns)} if rows else {}
