"""The figures of a single run of spike times, drawn when its simulation is done. C classes."""

import dataclasses

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.convert import converted
from respike.callbacks.log import log_confusion
from respike.errors import InputError
from respike.figures.common_figures import SAMPLES, check_image, class_names, figures_of_any, keep_figures, simulated_by
from respike.figures.confusion import confusion_charts
from respike.figures.potentials import chosen_neurons, hidden_potentials, output_potentials
from respike.figures.spike_times import layer_windows, raster, spike_time_distributions
from respike.metrics.confusion import confusion, row_shares
from respike.simulate.ttfs.potentials import potentials
from respike.simulate.ttfs.program import network_shapes
from respike.simulate.ttfs.record import TTFSRecord
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.distributed import rank

BUDGET = 1 << 27  # bytes of the spike times that are kept to draw


class TTFSRunFigures(Callback):
    """At the end of the test, after `SimulateTTFS`: pictures of the run in figures/, also to the logger.

    image: number of the test image whose spikes and potentials are shown, from 0; neurons: how many of the first and of the
    last hidden layer have their potential drawn.
    """

    def __init__(self, image: int = 0, neurons: int = 4):
        if neurons < 1:
            raise InputError(f"callbacks.figures.neurons={neurons}: 1 or more")
        self.image, self.neurons = image, neurons

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an image that is not there before anything is simulated."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = simulated_by(trainer, TTFSRecord)
        figures = self._of_spikes(trainer, simulated) | _of_classes(trainer, simulated) | figures_of_any(trainer)
        keep_figures(trainer, figures)

    def _of_spikes(self, trainer: Trainer, simulated: Callback) -> dict[str, Figure]:
        data, snn = trainer.datamodule, converted(trainer)
        numbers = self._numbers(trainer)
        pixels = data.images.test_images[numbers].to(trainer.strategy.root_device)
        record = simulated.simulate(snn, pixels, index=numbers, trace=numbers.tolist())
        spikes, windows = record.spike_times[int(numbers[0])], layer_windows(snn)
        pooled = {name: torch.stack([times[name] for times in record.spike_times.values()]) for name in spikes}
        classes, label = class_names(trainer, record.logits.shape[1]), int(data.labels("test")[self.image])
        settings = _settings(simulated)
        noise = f", spike times with noise {settings['time_noise']:g}" if settings.get("time_noise") else ""
        name = f"test image {self.image}, a {classes[label]}{noise}"
        *hidden, output = snn.layers
        drawn = {
            "raster": raster(spikes, windows, snn.latency, name),
            "spike_times": spike_time_distributions(pooled, windows, len(numbers)),
        }
        if hidden:
            shown = {
                layer: potentials(
                    snn, layer, spikes, chosen_neurons(spikes[layer], windows[layer][1], self.neurons), **settings
                )
                for layer in dict.fromkeys((hidden[0], hidden[-1]))
            }
            drawn["potentials"] = hidden_potentials(shown, windows, name)
        outputs = potentials(snn, output, spikes, range(len(classes)), **settings)
        drawn["output_potentials"] = output_potentials(outputs, record.logits[0], label, classes, name)
        return drawn

    def _numbers(self, trainer: Trainer) -> torch.Tensor:
        """Numbers of the images traced: the one shown, then the first others, as many as are kept in BUDGET bytes."""
        data, snn = trainer.datamodule, converted(trainer)
        shapes = network_shapes(snn, data.images.test_images[:1].shape[1:])
        neurons = sum(inputs.numel() + outputs.numel() for inputs, outputs in shapes.values())
        first = [place for place in range(min(SAMPLES, len(data.index["test"]))) if place != self.image]
        return data.index["test"][[self.image, *first][: max(1, min(SAMPLES, BUDGET // (8 * neurons)))]]


def _settings(simulated: Callback) -> dict[str, object]:
    known = {field.name for field in dataclasses.fields(TTFSSettings)}
    return {name: value for name, value in simulated.simulate.keywords.items() if name in known}


def _of_classes(trainer: Trainer, simulated: Callback) -> dict[str, Figure]:
    labels, predicted = trainer.datamodule.labels("test"), simulated.record.predicted
    classes = class_names(trainer, simulated.record.logits.shape[1])
    log_confusion(trainer, "confusion", labels, predicted, classes)
    accuracy = float((predicted == labels).double().mean())
    shares = row_shares(confusion(labels, predicted, len(classes)))
    return {"confusion": confusion_charts({f"{100 * accuracy:.2f} % right": shares}, classes)}
