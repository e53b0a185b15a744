"""Tab completes groups, options and settings of python -m respike.train and respike.check in bash."""

import shutil
import subprocess
import sys

import pytest

LINES = [
    ("train experiment=exact_l", {"experiment=exact_lenet"}),
    ("train -m experiment=exact_fc convert.z", {"convert.zeta="}),
    ("check experiment=diehl_fc_r", {"experiment=diehl_fc_raw"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_tab_completes_options_and_settings():
    install = f'eval "$({sys.executable} -m hydra_plugins.respike_completion)"'
    for typed, found in LINES:
        line = f"{sys.executable} -m respike.{typed}"
        call = f"COMP_LINE='{line}'; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _respike_completion"
        show = 'printf "%s\\n" "${COMPREPLY[@]}"'
        shell = subprocess.run(["bash", "-c", f"{install}; {call}; {show}"], capture_output=True, text=True, check=True)
        assert set(shell.stdout.split()) == found, shell.stderr
    other = f"{install}; COMP_LINE='python script.py exp'; _respike_completion; echo ${{#COMPREPLY[@]}}"
    assert subprocess.run(["bash", "-c", other], capture_output=True, text=True).stdout.strip() == "0"
