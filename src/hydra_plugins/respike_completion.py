"""Completion of `python -m respike.train` and `python -m respike.check` in bash:

    eval "$(python -m hydra_plugins.respike_completion)"

Hydra's own completion serves scripts and installed commands, not `python -m`, and would import torch at every Tab. So this file
lies outside the package `respike`, and imports nothing but Hydra.
"""

import importlib.util
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

BASH = r"""_respike_completion() {
    case $COMP_LINE in *"-m respike.train "*|*"-m respike.check "*) ;; *) return ;; esac
    local typed="respike ${COMP_LINE#*-m respike.* }"
    local choices=$(COMP_LINE="$typed" COMP_POINT=${#typed} "${COMP_WORDS[0]}" -m hydra_plugins.respike_completion \
        -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _respike_completion python python3"""


def _conf() -> str:
    """The folder of the configs, as in respike.runs.conf."""
    spec = importlib.util.find_spec("respike")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    return str(package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf")


def main() -> None:
    """Print the bash function; with -sc query=bash, what bash may complete COMP_LINE to."""
    if len(sys.argv) == 1:
        print(BASH)
        return

    @hydra.main(version_base="1.3", config_path=_conf(), config_name="config")
    def nothing(cfg: DictConfig) -> None: ...

    nothing()


if __name__ == "__main__":
    main()
