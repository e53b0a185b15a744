"""The folder name of a sweep's job, made of its overrides. In a config: ${job_folder:...}."""

import hashlib

from omegaconf import OmegaConf

LONGEST = 150  # characters; file systems allow 255 for a name, and W&B extends this name in its own files


def job_folder(overrides: str) -> str:
    """The overrides, with "_" in place of "/". If they have a "/" or are longer than LONGEST: cut, with a hash of them all."""
    if "/" not in overrides and len(overrides) <= LONGEST:
        return overrides or "job"
    return f"{overrides.replace('/', '_')[:LONGEST]}-{hashlib.sha256(overrides.encode()).hexdigest()[:10]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
