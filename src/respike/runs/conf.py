"""Where the configs are, their groups, and the options of each group."""

from functools import cache
from pathlib import Path


def conf_folder() -> Path:
    """The folder of the configs: inside the package when it is installed, else at the top of the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


CONF = conf_folder()


@cache
def groups() -> list[str]:
    """The config groups, as they are typed: model, recipe/scheduler, ..."""
    found = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    return sorted(found - {".", "report", "wandb_sweeps", "hydra/help", "convert/none"})  # the last: by method


def options(group: str) -> list[Path]:
    """The files of a config group's options, sorted by name; files named _*.yaml are parts of other files."""
    return sorted(path for path in (CONF / group).glob("*.yaml") if not path.name.startswith("_"))


def names(group: str) -> list[str]:
    """The options of a config group, sorted."""
    return [path.stem for path in options(group)]
