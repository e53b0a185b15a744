"""The folder name of a sweep's job, made of its overrides. In a config: ${job_folder:...}."""

import hashlib

from omegaconf import OmegaConf

LONGEST = 150  # characters; file systems allow 255 for a name, and W&B extends this name in its own files


def job_folder(overrides: str) -> str:
    """The overrides, with "_" in place of "/". A name longer than LONGEST is cut and ends with a hash of the whole name."""
    name = overrides.replace("/", "_") or "job"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
