"""The figures of a single run, drawn when its simulation is done."""

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.convert import converted
from respike.callbacks.log import log_confusion, log_film, log_lines
from respike.callbacks.simulate_rate import SimulateRate
from respike.data.pixels import to_unit
from respike.figures.common_figures import check_image, class_names, figures_of_any, keep_figures, simulated_by
from respike.figures.confusion import chosen_steps, confusion_charts, save_confusion_film
from respike.figures.curves import accuracy_and_agreement, firing_rates
from respike.figures.images import spike_images
from respike.figures.training import output_counts
from respike.metrics.activity import firing_rates as rates_of
from respike.metrics.confusion import confusion, row_shares
from respike.simulate.record import SpikeRecord
from respike.system.distributed import rank

SPIKE_STEPS = 3  # of which the input spikes are shown


class RateFigures(Callback):
    """At the end of the test, after `SimulateRate`: pictures of the run in figures/, also to the logger.

    image: number of the test image whose spikes are shown, from 0; film: also the confusion after every step, a GIF.
    """

    def __init__(self, image: int = 0, film: bool = True):
        self.image, self.film = image, film

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an image that is not there before anything is simulated."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = simulated_by(trainer, SpikeRecord)
        figures = {
            "accuracy": accuracy_and_agreement(simulated.columns),
            "firing_rates": firing_rates(rates_of(simulated.record)),
            **self._of_image(trainer, simulated),
            **_of_classes(trainer, simulated),
            **figures_of_any(trainer),
        }
        folder = keep_figures(trainer, figures)
        if self.film:
            path, labels = folder / "confusion.gif", trainer.datamodule.labels("test")
            save_confusion_film(simulated.record.predicted, labels, _classes(trainer, simulated), path)
            log_film(trainer, "confusion_film", path)

    def _of_image(self, trainer: Trainer, simulated: SimulateRate) -> dict[str, Figure]:
        data, number = trainer.datamodule, torch.tensor([self.image])
        pixels, label = data.images.test_images, int(data.labels("test")[self.image])
        classes = _classes(trainer, simulated)
        snn, image = converted(trainer), pixels[number].to(trainer.strategy.root_device)
        trace = simulated.simulate(snn, image, index=number, trace=[self.image]).traces[self.image]
        spikes, steps = trace.spikes["input"].cpu(), simulated.record.steps
        shown = [round(steps * k / SPIKE_STEPS) for k in range(1, SPIKE_STEPS + 1) if steps >= SPIKE_STEPS]
        drawn = {}
        if "input" in simulated.record.spikes:  # an analog input is the image itself
            drawn["spikes"] = spike_images(to_unit(pixels[self.image]), spikes, f"a {classes[label]}", shown)
        counts = trace.spikes[snn.output].flatten(1).cumsum(0).long().cpu()  # (T, C)
        drawn["output_spikes"] = output_counts(counts, label, classes, f"test image {self.image}, a {classes[label]}")
        lines = {name: counts[:, c].tolist() for c, name in enumerate(classes)}
        log_lines(trainer, "output_spikes", range(1, steps + 1), lines, "step")
        return drawn


def _classes(trainer: Trainer, simulated: SimulateRate) -> list[str]:
    return class_names(trainer, simulated.record.counts.shape[1])


def _of_classes(trainer: Trainer, simulated: SimulateRate) -> dict[str, Figure]:
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
