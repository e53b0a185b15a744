"""Draws the figures of a run of method=direct at the end of its test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from respike.callbacks.simulate_direct import SimulateDirect
from respike.figures.common_figures import (
    check_image,
    confusion_over_steps,
    data_and_training,
    read_history,
    save_figures,
    simulation_of,
)
from respike.figures.curves import accuracy_and_agreement
from respike.figures.layers import firing_rates, layer_rates, potential_panels, rate_map
from respike.layers.neuron_layer import NeuronLayer
from respike.metrics.activity import activities, activities_over_steps
from respike.simulate.direct.evaluate import potential_histograms
from respike.system.distributed import rank
from respike.system.files import write_csv
from respike.training.layer_activity import ACTIVITY
from respike.training.trainer import data_of

BELOW, ABOVE = -2.0, 3.0  # range of the potentials that are drawn, in thresholds


class DirectFigures(Callback):
    """At the end of the test, after `SimulateDirect`: draws figures/*.png, logs them, and writes image_rates.csv.

    image: number of the test image whose firing rates are shown, from 0. potentials_of: number of test images whose
    membrane potentials are shown. published_rates: spikes per neuron of each layer for one image. published_epochs:
    validation accuracy of each epoch. published_on: the function of the data set on which these were measured; beside others
    they are not drawn.
    """

    def __init__(
        self,
        image: int = 0,
        potentials_of: int = 100,
        published_rates: Sequence[float] | None = None,
        published_epochs: Sequence[float] | None = None,
        published_on: str | None = None,
    ):
        self.image, self.potentials_of = image, potentials_of
        self.published_rates, self.published_epochs = published_rates, published_epochs
        self.published_on = published_on

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for an image that does not exist."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = simulation_of(trainer, SimulateDirect)
        record = simulated.record
        steps = range(1, record.steps + 1)
        over_steps = f"{record.images:,} test images, after training"
        figures = {
            "accuracy": accuracy_and_agreement(simulated.columns),
            "firing_rates": firing_rates(activities(record), "spikes per step"),
            "layer_rates": self._of_image(trainer, simulated),
            "rates_over_steps": rate_map(activities_over_steps(record), steps, "step", over_steps),
            "confusion": confusion_over_steps(trainer, record),
            **data_and_training(trainer, self.published_epochs if self._on_published_data(trainer) else None),
            **_rates_of_training(read_history(trainer)),
        }
        if len(thresholds := _thresholds(pl_module.net)) == 1:  # one axis for all layers
            figures["membrane_potentials"] = self._potentials(trainer, simulated, *thresholds)
        save_figures(trainer, figures)

    def _of_image(self, trainer: Trainer, simulated: SimulateDirect) -> Figure:
        data = data_of(trainer)
        image = data.images.test_images[data.index["test"][[self.image]]].to(trainer.strategy.root_device)
        record = simulated.simulate(simulated.snn, image)
        rates = {name: rate * record.steps for name, rate in activities(record).items()}
        published = self.published_rates if self._on_published_data(trainer) else None
        if published is not None and (record.steps != simulated.snn.steps or len(published) != len(rates)):
            published = None
        table: dict[str, list[Any]] = {
            "layer": list(rates),
            "spikes_per_neuron": list(rates.values()),
            "published": [None] * len(rates) if published is None else list(published),
        }
        write_csv(Path(trainer.default_root_dir, "image_rates.csv"), table)
        return layer_rates(rates, f"test image {self.image}, summed over {record.steps} steps", published)

    def _on_published_data(self, trainer: Trainer) -> bool:
        dataset: Any = data_of(trainer).dataset
        return self.published_on in (None, getattr(dataset, "func", dataset).__name__)

    def _potentials(self, trainer: Trainer, simulated: SimulateDirect, v_th: float) -> Figure:
        data = data_of(trainer)
        images = data.images.test_images[data.index["test"][: self.potentials_of]]
        low, high = BELOW * v_th, ABOVE * v_th
        images = images.to(trainer.strategy.root_device)
        counts = potential_histograms(simulated.snn, images, low, high, steps=simulated.record.steps)
        return potential_panels(counts, low, high, v_th, f"{len(images)} test images, {simulated.record.steps} steps")


def _thresholds(net: nn.Module) -> set[float]:
    """The thresholds of a network's neurons; none where a layer of a user's own does not tell it."""
    layers = [getattr(layer, "neurons", layer) for layer in net.spiking_layers().values()]
    told = all(isinstance(layer, NeuronLayer) for layer in layers)
    return {float(layer.neuron.threshold) for layer in layers} if told else set()


def _rates_of_training(history: dict[str, list[float]]) -> dict[str, Figure]:
    """The firing rates after each epoch; {} without a training."""
    rates = {name.removeprefix(ACTIVITY): values for name, values in history.items() if name.startswith(ACTIVITY)}
    title = "a batch of validation images, after each epoch"
    return {"rates_over_epochs": rate_map(rates, history["epoch"], "epoch", title)} if rates else {}
