"""Draws the figures of a run of method=rate at the end of its test."""

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.convert import converted
from respike.callbacks.log import log_film, log_lines
from respike.callbacks.simulate_rate import SimulateRate
from respike.convert import RateSNN
from respike.data.pixels import to_unit
from respike.figures.common_figures import (
    check_image,
    class_names,
    confusion_over_steps,
    data_and_training,
    save_figures,
    simulation_of,
)
from respike.figures.confusion import save_confusion_film
from respike.figures.curves import accuracy_and_agreement, read_out
from respike.figures.images import output_counts, spike_images
from respike.figures.layers import firing_rates, rate_correlations
from respike.metrics.activity import firing_rates as rates_of
from respike.simulate.record import SpikeRecord
from respike.system.distributed import rank
from respike.training.trainer import data_of

SPIKE_STEPS = 3  # number of steps whose input spikes are shown


class RateFigures(Callback):
    """At the end of the test, after `SimulateRate`: draws figures/*.png in the run's folder and logs them.

    image: number of the test image whose spikes are shown, from 0. film: also write the confusion matrix after every step
    as a GIF.
    """

    def __init__(self, image: int = 0, film: bool = True):
        self.image, self.film = image, film

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError for an image that does not exist, before anything is simulated."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = simulation_of(trainer, SimulateRate)
        figures = {
            "accuracy": accuracy_and_agreement(simulated.columns, simulated.record.read_from),
            **self._rates(simulated.record),
            **_correlations(simulated),
            **self._of_image(trainer, simulated),
            "confusion": confusion_over_steps(trainer, simulated.record),
            **data_and_training(trainer),
        }
        folder = save_figures(trainer, figures)
        if self.film:
            path, record = folder / "confusion.gif", simulated.record
            classes = class_names(trainer, record.counts.shape[1])
            labels = data_of(trainer).labels("test")
            save_confusion_film(record.predicted, labels, classes, path, record.read_from)
            log_film(trainer, "confusion_film", path)

    def _rates(self, record: SpikeRecord) -> dict[str, Figure]:
        """The firing rates of the layers, unless nothing spikes: one layer, read by its current."""
        rates = rates_of(record)
        return {"firing_rates": firing_rates(rates)} if rates else {}

    def _of_image(self, trainer: Trainer, simulated: SimulateRate) -> dict[str, Figure]:
        """Input spikes and output (spikes or currents) of the chosen image, which is simulated once more with a trace."""
        data, label = data_of(trainer), int(data_of(trainer).labels("test")[self.image])
        number = data.index["test"][[self.image]]
        image = data.images.test_images[number]
        classes = class_names(trainer, simulated.record.counts.shape[1])
        snn, there = converted(trainer, RateSNN), image.to(trainer.strategy.root_device)
        trace = simulated.simulate(snn, there, index=number, trace=number.tolist()).traces[int(number)]
        steps, unread = simulated.record.steps, simulated.record.read_from
        figures = {}
        if "input" in simulated.record.spikes:  # an analog input is the image itself
            spikes = trace.spikes["input"].cpu()
            shown = [round(steps * k / SPIKE_STEPS) for k in range(1, SPIKE_STEPS + 1)] if steps >= SPIKE_STEPS else []
            figures["spikes"] = spike_images(to_unit(image[0]), spikes, f"class {classes[label]}", shown)
        if snn.readout == "current":
            output = "output_currents"
            sums = trace.potentials[snn.output].flatten(1).cpu()
            sums = sums[unread:] - (sums[unread - 1] if unread else 0)
            counts = sums / torch.arange(1, steps - unread + 1).unsqueeze(1)  # (T - t0, C)
        else:
            output, counts = "output_spikes", trace.spikes[snn.output].flatten(1)[unread:].cumsum(0).long().cpu()
        name = f"test image {self.image}, class {classes[label]}"
        figures[output] = output_counts(counts, label, classes, name + read_out(steps, unread), unread)
        lines = {name: counts[:, c].tolist() for c, name in enumerate(classes)}
        log_lines(trainer, output, range(unread + 1, steps + 1), lines, "step")
        return figures


def _correlations(simulated: SimulateRate) -> dict[str, Figure]:
    """The figure of how rates correlate with activations, if this was measured."""
    measured = simulated.correlations
    return {"correlations": rate_correlations(measured, simulated.record.steps)} if measured else {}
