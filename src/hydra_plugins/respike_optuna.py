"""Hydra finds hydra/sweeper=optuna here (it looks only into this package); respike.runs.search does the work."""

import sys
from collections.abc import Mapping
from typing import Literal

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSearch(Sweeper):
    """A multirun whose jobs Optuna chooses; settings as in `respike.runs.search.Search`. Any launcher runs them."""

    def __init__(
        self,
        objectives: Mapping[str, Literal["maximize", "minimize"]],
        params: Mapping[str, str],
        n_trials: int,
        at_once: int,
        seed: int,
    ):
        self.objectives, self.params = objectives, params
        self.numbers = {"n_trials": n_trials, "at_once": at_once, "seed": seed}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before the sweep."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the study; a mistake in its settings is one line on stderr and status 1."""
        import respike.runs.search as search  # here: Optuna is not loaded for every run

        assert self.config and self.launcher and self.hydra_context  # Hydra has called `setup`
        folder = self.config.hydra.sweep.dir
        try:
            search.Search(folder, self.objectives, self.params, **self.numbers).run(self.launcher.launch, arguments)
        except search.InputError as error:
            try:
                self.hydra_context.callbacks.on_multirun_end(config=self.config)  # the table of the jobs
            finally:
                print(f"respike: {error}", file=sys.stderr)
            sys.exit(1)
