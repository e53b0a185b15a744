"""Draws the figures of a run of method=ttfs at the end of its test."""

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.convert import converted
from respike.callbacks.log import log_confusion
from respike.callbacks.simulate_ttfs import SimulateTTFS
from respike.convert import TTFSNet
from respike.errors import InputError
from respike.figures.common_figures import (
    SAMPLES,
    accuracy,
    check_image,
    class_names,
    data_and_training,
    save_figures,
    simulation_of,
)
from respike.figures.confusion import confusion_charts
from respike.figures.spike_times import (
    chosen_neurons,
    hidden_potentials,
    layer_windows,
    output_potentials,
    raster,
    spike_time_distributions,
)
from respike.metrics.confusion import confusion, row_shares
from respike.simulate.ttfs.potentials import potentials
from respike.simulate.ttfs.program import network_shapes
from respike.simulate.ttfs.record import TTFSRecord
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.distributed import rank
from respike.training.trainer import data_of

BUDGET = 1 << 27  # bytes of spike times that are kept in memory to be drawn


class TTFSFigures(Callback):
    """At the end of the test, after `SimulateTTFS`: draws figures/*.png in the run's folder and logs them.

    image: number of the test image whose spikes and potentials are shown, from 0. neurons: number of neurons of the first
    and of the last hidden layer whose potentials are shown.
    """

    def __init__(self, image: int = 0, neurons: int = 4):
        if neurons < 1:
            raise InputError(f"callbacks.figures.neurons={neurons}: 1 or more")
        self.image, self.neurons = image, neurons

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise InputError for an image that does not exist, before anything is simulated."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = simulation_of(trainer, SimulateTTFS)
        figures = {
            **self._of_spikes(trainer, simulated),
            "confusion": _confusion(trainer, simulated.record),
            **data_and_training(trainer),
        }
        save_figures(trainer, figures)

    def _of_spikes(self, trainer: Trainer, simulated: SimulateTTFS) -> dict[str, Figure]:
        """Spike times and potentials of a few images, which are simulated once more with a trace."""
        data, snn = data_of(trainer), converted(trainer, TTFSNet)
        numbers = self._traced_images(trainer)
        pixels = data.images.test_images[numbers].to(trainer.strategy.root_device)
        record = simulated.simulate(snn, pixels, index=numbers, trace=numbers.tolist())
        spikes, windows = record.spike_times[int(numbers[0])], layer_windows(snn)
        pooled = {name: torch.stack([times[name] for times in record.spike_times.values()]) for name in spikes}
        classes, label = class_names(trainer, record.logits.shape[1]), int(data.labels("test")[self.image])
        settings = TTFSSettings.of(simulated.simulate)
        noise = f", spike times with noise {settings.time_noise:g}" if settings.time_noise else ""
        name = f"test image {self.image}, class {classes[label]}{noise}"
        *hidden, output = snn.layers
        figures = {
            "raster": raster(spikes, windows, snn.latency, name),
            "spike_times": spike_time_distributions(pooled, windows, len(numbers)),
        }
        if hidden:
            shown = {
                layer: potentials(
                    snn, layer, spikes, chosen_neurons(spikes[layer], windows[layer][1], self.neurons), **vars(settings)
                )
                for layer in dict.fromkeys((hidden[0], hidden[-1]))
            }
            figures["potentials"] = hidden_potentials(shown, windows, name)
        outputs = potentials(snn, output, spikes, range(len(classes)), **vars(settings))
        figures["output_potentials"] = output_potentials(outputs, record.logits[0], label, classes, name)
        return figures

    def _traced_images(self, trainer: Trainer) -> torch.Tensor:
        """Numbers of the images to trace: the chosen one, then the first others, as many as fit in BUDGET bytes."""
        data, snn = data_of(trainer), converted(trainer, TTFSNet)
        shapes = network_shapes(snn, data.images.test_images[:1].shape[1:])
        neurons = sum(inputs.numel() + outputs.numel() for inputs, outputs in shapes.values())
        others = [number for number in range(min(SAMPLES, len(data.index["test"]))) if number != self.image]
        count = max(1, min(SAMPLES, BUDGET // (8 * neurons)))
        return data.index["test"][[self.image, *others][:count]]


def _confusion(trainer: Trainer, record: TTFSRecord) -> Figure:
    """The confusion matrix of all test images, also logged as a chart."""
    labels, predicted = data_of(trainer).labels("test"), record.predicted
    classes = class_names(trainer, record.logits.shape[1])
    log_confusion(trainer, "confusion", labels, predicted, classes)
    shares = row_shares(confusion(labels, predicted, len(classes)))
    return confusion_charts({f"accuracy {accuracy(predicted, labels)}": shares}, classes)
