"""Where a number comes from: commit, packages, data, seed, machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "wandb", "numpy", "respike")


def git_commit() -> str:
    """Commit of the source this package runs from, "-dirty" where files differ from it, "unknown" without git."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *command], check=True, capture_output=True, text=True
    ).stdout.strip()


def processor() -> str:
    """The processor's own name and the number of threads torch uses on it."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {_threads()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def provenance(data_name: str, data_sha256: str, seed: int, device: torch.device, started: str) -> dict:
    """Everything but the wall times, ready for provenance.json."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "git_commit": git_commit(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "data": {"name": data_name, "sha256": data_sha256},
        "seed": seed,
        "device": gpu or device.type,
        "processor": processor(),
        "started": started,
    }


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count != 1)}"
