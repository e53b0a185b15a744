"""The provenance of a run: commit, packages, data, seed, hardware."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "wandb", "numpy", "respike")


def git_commit() -> str:
    """Commit of the repository this package runs from, with "-dirty" if tracked files were changed.

    "unknown" without git, and for a package that is installed below the folder of another repository.
    """
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *command], check=True, capture_output=True, text=True
    ).stdout.strip()


def processor() -> str:
    """Model name of the CPU and the number of threads that torch uses."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {_threads()}"


def instructions() -> str:
    """The instruction sets of the CPU, as Linux lists them: code compiled for one CPU may not run on another."""
    found = (line.split(":")[1] for line in _cpuinfo() if line.startswith(("flags", "Features")))
    return " ".join(sorted(next(found, platform.machine()).split()))


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def provenance(data: dict[str, str | None], seed: int, device: torch.device, started: str) -> dict:
    """The content of provenance.json, without the times of the stages.

    data: name and digests of the images; started: time stamp of the run's start.
    """
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "git_commit": git_commit(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "data": data,
        "seed": seed,
        "device": gpu or device.type,
        "processor": processor(),
        "started": started,
    }


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count != 1)}"
