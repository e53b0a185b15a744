"""Adds the Hydra configs, which lie in conf/ of the repository, to the built package as respike/conf.

All other settings are in pyproject.toml. An editable install reads conf/ where it is.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONF = Path(__file__).parent / "conf"


class BuildWithConfigs(build_py):
    """build_py, and a copy of conf/."""

    def run(self) -> None:
        """Called by setuptools."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "respike", "conf")
            shutil.rmtree(target, ignore_errors=True)  # no options of an earlier build
            shutil.copytree(CONF, target)


setup(cmdclass={"build_py": BuildWithConfigs})
