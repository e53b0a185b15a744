"""Hydra finds hydra/sweeper=optuna here (it looks only into this package); respike.runs.search does the work."""

import sys
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSearch(Sweeper):
    """A multirun whose jobs Optuna chooses; settings as in `respike.runs.search.Search`. Any launcher runs them."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before the sweep."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the study; a mistake in its settings is one line on stderr and status 1."""
        import respike.runs.search as search  # here: Optuna is not loaded for every run

        assert self.config is not None and self.launcher is not None  # Hydra has called `setup`
        try:
            search.Search(folder=self.config.hydra.sweep.dir, **self.settings).run(self.launcher.launch, arguments)
        except search.InputError as error:
            print(f"respike: {error}", file=sys.stderr)
            sys.exit(1)
