"""The figures of a single run, drawn when its simulation is done."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.log import log_figure
from respike.callbacks.simulate import Simulate
from respike.metrics.activity import firing_rates as rates_of
from respike.ranks import rank
from respike.report.figures import accuracy_and_agreement, firing_rates, save


class RunFigures(Callback):
    """At the end of the test, after `Simulate`: figures/accuracy.png and figures/firing_rates.png, also to the logger."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if rank() > 0:
            return
        simulated = next(callback for callback in trainer.callbacks if isinstance(callback, Simulate))
        figures = {
            "accuracy": accuracy_and_agreement(simulated.columns),
            "firing_rates": firing_rates(rates_of(simulated.record)),
        }
        folder = Path(trainer.default_root_dir, "figures")
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save(figure, folder / f"{name}.png")
            log_figure(trainer, name, folder / f"{name}.png")
