"""The figures of a run of a directly trained network, drawn when its test is done."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.log import log_confusion
from respike.callbacks.simulate_direct import Inference
from respike.callbacks.simulate_rate import write_csv
from respike.figures.common_figures import (
    check_image,
    class_names,
    figures_of_any,
    keep_figures,
    read_history,
    simulated_by,
)
from respike.figures.confusion import chosen_steps, confusion_charts
from respike.figures.curves import accuracy_and_agreement, firing_rates
from respike.figures.layers import layer_rates, potential_panels, rate_map
from respike.figures.training import training_progress
from respike.metrics.activity import activities, activities_over_steps
from respike.metrics.confusion import confusion, row_shares
from respike.simulate.direct.evaluate import potential_histograms
from respike.simulate.record import SpikeRecord
from respike.system.distributed import rank
from respike.training.layer_activity import ACTIVITY

BELOW, ABOVE = -2.0, 3.0  # potentials drawn, in thresholds


class DirectRunFigures(Callback):
    """At the end of the test, after `Inference`: pictures of the run in figures/, also to the logger; image_rates.csv.

    image: number of the test image whose firing rates are shown, from 0; potentials_of: test images whose potentials are
    drawn; published_rates: spikes per neuron of each layer for one image; published_epochs: validation accuracies.
    """

    def __init__(
        self,
        image: int = 0,
        potentials_of: int = 100,
        published_rates: Sequence[float] | None = None,
        published_epochs: Sequence[float] | None = None,
    ):
        self.image, self.potentials_of = image, potentials_of
        self.published_rates, self.published_epochs = published_rates, published_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before any training, an image that is not there."""
        check_image(trainer, self.image)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        done: Inference = simulated_by(trainer, SpikeRecord)
        record = done.record
        steps = range(1, record.steps + 1)
        over_steps = f"{record.images:,} test images, after training"
        figures = {
            "accuracy": accuracy_and_agreement(done.columns),
            "firing_rates": firing_rates(activities(record), "spikes per step"),
            "layer_rates": self._of_image(trainer, done),
            "rates_over_steps": rate_map(activities_over_steps(record), steps, "step", over_steps),
            "membrane_potentials": self._potentials(trainer, done, pl_module.net.fire.neurons.neuron.threshold),
            "confusion": _of_classes(trainer, done),
            **figures_of_any(trainer),
            **self._of_training(Path(trainer.default_root_dir, "training.csv")),
        }
        keep_figures(trainer, figures)

    def _of_image(self, trainer: Trainer, done: Inference) -> Figure:
        image = trainer.datamodule.images.test_images[[self.image]].to(trainer.strategy.root_device)
        record = done.simulate(done.snn, image)
        rates = {name: rate * record.steps for name, rate in activities(record).items()}
        published = self.published_rates if record.steps == done.snn.steps else None
        beside = published if published and len(published) == len(rates) else [""] * len(rates)
        lines = zip(rates, rates.values(), beside, strict=True)
        write_csv(Path(trainer.default_root_dir, "image_rates.csv"), ["layer", "spikes_per_neuron", "published"], lines)
        named = f"test image {self.image}, summed over {record.steps} steps"
        return layer_rates(rates, named, published)

    def _potentials(self, trainer: Trainer, done: Inference, v_th: float) -> Figure:
        images = trainer.datamodule.images.test_images[trainer.datamodule.index["test"][: self.potentials_of]]
        low, high = BELOW * v_th, ABOVE * v_th
        images = images.to(trainer.strategy.root_device)
        counts = potential_histograms(done.snn, images, low, high, steps=done.record.steps)
        title = f"{len(images)} test images, all {done.record.steps} steps"
        return potential_panels(counts, low, high, v_th, title)

    def _of_training(self, history: Path) -> dict[str, Figure]:
        """Nothing for a run that trained nothing."""
        columns = read_history(history)
        rates = {n.removeprefix(ACTIVITY): v for n, v in columns.items() if n.startswith(ACTIVITY)}
        drawn = {"training": training_progress(columns, self.published_epochs)} if columns else {}
        if rates:
            title = "a batch of validation images, after each epoch"
            drawn["rates_over_epochs"] = rate_map(rates, columns["epoch"], "epoch", title)
        return drawn


def _of_classes(trainer: Trainer, done: Inference) -> Figure:
    labels, record = trainer.datamodule.labels("test"), done.record
    classes = class_names(trainer, record.counts.shape[1])
    log_confusion(trainer, "confusion", labels, record.predicted[-1], classes)
    charts = {
        f"step {step}: {100 * done.columns['acc'][step - 1]:.2f} %": row_shares(
            confusion(labels, record.predicted[step - 1], len(classes))
        )
        for step in chosen_steps(record.steps)
    }
    return confusion_charts(charts, classes)
