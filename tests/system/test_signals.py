"""A stopped command ends with one line and the status of the signal, wherever it is."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from respike.system.signals import run_command
def main():
    print("ready", flush=True)
    try:
        time.sleep(60)
    except Exception:
        print("swallowed", flush=True)
run_command(main, "all is kept")
"""


def heed():
    """Ctrl-C reaches the new process even if the tests run in the background, where shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_signals_give_one_line_and_their_status(number, status, word):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (status, "", f"respike: {word}; all is kept")


@pytest.mark.parametrize(("number", "after"), [(signal.SIGTERM, "epoch 1 of"), (signal.SIGINT, "training")])
def test_a_run_that_is_stopped_in_training_or_test_says_so_and_leaves_no_finished_run(tmp_path, number, after):
    """The process gets the signal when its log shows the training, or as soon as the training is over."""
    command = [
        sys.executable, "-m", "respike.train", "experiment=digits_cnn", "trainer.max_epochs=3", "data.train_size=300",
        "data.test_size=2000", "logger=csv", "callbacks.figures=null", f"paths.outputs={tmp_path}", f"paths.run={tmp_path}/run",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, preexec_fn=heed
    )
    seen = ""
    while "epoch 1 of" not in seen and process.poll() is None:
        seen += process.stdout.readline()
    if after == "training":
        while not list(tmp_path.glob("stages/*/model.ckpt")) and process.poll() is None:
            time.sleep(0.01)
    process.send_signal(number)
    out = seen + process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number, out
    assert "respike: " in out.splitlines()[-1] and "the same command continues" in out.splitlines()[-1], out
    assert "Traceback" not in out
    assert not (tmp_path / "run" / "metrics.json").exists()
