"""Hydra finds hydra/sweeper=grids here (it looks only into this package); respike.runs.grid makes the jobs."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override


class Grids(BasicSweeper):
    """A multirun of several grids, where what one setting may be depends on another.

    grids: as `respike.runs.grid.grid_jobs` takes them.
    """

    def __init__(self, grids: Sequence[Mapping[str, Any]], max_batch_size: int | None = None):
        super().__init__(max_batch_size)
        self.grids = grids
        self.jobs: list[list[str]] = []

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs, those of one grid after those of the other."""
        from respike.runs.grid import grid_jobs  # here: torch is not loaded for every completion

        self.jobs = grid_jobs(self.grids, arguments)
        return super().sweep(arguments)

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The jobs in batches, in place of the product of all values."""
        return [list(jobs) for jobs in self.split_overrides_to_chunks(self.jobs, max_batch_size)]
