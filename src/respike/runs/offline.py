"""Upload the offline W&B runs below a folder, or show them in the terminal.

python -m respike.runs.offline sync [outputs]
python -m respike.runs.offline dashboard [outputs]
"""

import argparse
import netrc
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from respike.errors import InputError
from respike.report.terminal import shown_path
from respike.system.signals import run_command

HOST = "api.wandb.ai"
WANDB = (sys.executable, "-m", "wandb")


def offline_runs(root: Path) -> list[Path]:
    """Folders of the runs that W&B wrote offline below `root`, oldest first. Raises InputError if there is none."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; type the folder of the runs, as outputs")
    found = {file.parent.resolve() for file in root.rglob("wandb/offline-run-*/run-*.wandb")}
    if not found:
        raise InputError(
            f"{root}: no offline run of W&B; runs with logger=csv, logger=none or logger=tensorboard write none"
        )
    return sorted(found, key=lambda folder: folder.name)


def offline_lines(folders: Sequence[Path], root: Path) -> list[str]:
    """Two lines for the end of a command: where its offline runs are, and how to upload them; [] if it has none.

    folders: of the runs of the command. root: a folder above them, which `sync` takes.
    """
    written = [file.parent for folder in folders for file in folder.glob("wandb/offline-run-*/run-*.wandb")]
    if not written:
        return []
    place = shown_path(written[-1]) if len(folders) == 1 else f"{len(folders)} runs below {shown_path(root)}"
    return [f"W&B (offline): {place}", f"to upload: make sync (python -m respike.runs.offline sync {shown_path(root)})"]


def has_account() -> bool:
    """Whether W&B has an API key or a token: from environment variables, or from an earlier `wandb login`."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    given = os.environ.get("NETRC")
    files = [os.path.expanduser(file) for file in ([given] if given else ["~/.netrc", "~/_netrc"])]
    file = next(filter(os.path.isfile, files), None)  # as W&B looks for it
    host = os.environ.get("WANDB_BASE_URL", HOST).split("//")[-1].rstrip("/")
    try:
        return file is not None and netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def sync(root: Path) -> int:
    """Upload the runs that are not uploaded yet. Returns the exit status of `wandb sync`."""
    left = [run for run in offline_runs(root) if not list(run.glob("*.synced"))]
    if not left:
        print(f"{root}: every offline run is uploaded already")
        return 0
    if not has_account():
        raise InputError(
            f"{len(left)} offline runs, but no W&B account on this machine: type wandb login (make dashboard needs none)"
        )
    print(f"uploading {len(left)} runs", flush=True)
    return subprocess.run([*WANDB, "sync", *map(str, left)]).returncode


def dashboard(root: Path) -> int:
    """Open all runs in `wandb leet`, which reads one folder: a temporary one with a link to each run. Needs no account."""
    runs = offline_runs(root)
    if not sys.stdout.isatty():
        raise InputError(f"the dashboard needs a terminal: type python -m respike.runs.offline dashboard {root} in one")
    with tempfile.TemporaryDirectory(prefix="respike-dashboard-") as folder:
        for run in runs:
            Path(folder, run.name).symlink_to(run)
        return subprocess.run([*WANDB, "leet", folder]).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m respike.runs.offline", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("sync", "dashboard"))
    parser.add_argument("root", nargs="?", type=Path, default=Path("outputs"), help="folder of the runs (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        return {"sync": sync, "dashboard": dashboard}[given.action](given.root)
    except InputError as error:
        print(f"respike: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    run_command(main)
