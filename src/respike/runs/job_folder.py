"""The folder of a sweep's job, named by what varies; Hydra asks for it as ${job_folder:...} in every process."""

import hashlib

from omegaconf import OmegaConf

LONGEST = 150  # characters; file systems take 255, W&B's files below it need some


def job_folder(overrides: str) -> str:
    """The overrides as they are, without folders in them; cut, with a hash of the whole, where they are long."""
    name = overrides.replace("/", "_") or "job"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
