"""Silences messages of the libraries that are not about the run."""

import logging
import warnings

from respike.system.distributed import rank

IRRELEVANT = (
    ".*treespec, LeafSpec.*",
    "The `srun` command is available",  # jobs are submitted to Slurm by a Hydra launcher
    r"Checkpoint directory .* exists and is not empty",  # a training is resumed
    r"Found \d+ module\(s\) in eval mode",  # Standardize, whose numbers are constants
    "The number of training batches .* is smaller than the logging interval",
)


def quiet_libraries() -> None:
    """Silence Lightning's hints on unused hardware and some warnings; in a distributed job also the log of all ranks but 0."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if rank() > 0:
        logging.getLogger("respike").setLevel(logging.ERROR)
    for message in IRRELEVANT:
        warnings.filterwarnings("ignore", message=message)
