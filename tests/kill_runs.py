"""Kills a run at random moments and starts it again until it is done: its results equal those of a run that nothing stopped.

python tests/kill_runs.py [KILLS=50] [SEED=0]

A run trains, converts and simulates on rendered digits. It is stopped by SIGKILL, SIGTERM or SIGINT, whatever it is doing, and
the same command is typed again. Compared bit for bit: weights of both networks, every number of metrics.json and of the tables
but for times.
"""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from respike.system.files import read_csv

STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {
    signal.SIGKILL: (-9,),
    signal.SIGTERM: (143, -15),
    signal.SIGINT: (130, -2, 1),
}  # before Python handles them: -n


def start(folder: Path) -> subprocess.Popen:
    """The run, in a process of its own, with all its files below `folder`."""
    command = [
        sys.executable, "-m", "respike.train", "experiment=digits_cnn", "trainer.max_epochs=4", "data.train_size=400",
        "data.test_size=300", "logger=none", f"paths.outputs={folder}", f"paths.run={folder}/run",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    log = open(folder.with_suffix(".log"), "a")  # noqa: SIM115  the process writes it
    # in the background shells have SIGINT ignored
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment, preexec_fn=heed)


def results(folder: Path) -> dict:
    """What a finished run found, without times."""
    run = folder / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    found: dict = {name: value for name, value in metrics.items() if not name.startswith("time/")}
    for table in sorted(run.glob("*.csv")):
        frame = read_csv(table)
        found[table.name] = frame.drop(columns=[name for name in frame if name == "seconds"]).to_dict("list")
    for file in sorted(run.glob("checkpoints/*.pt")):
        content = torch.load(file, weights_only=True)
        weights = content.get("weights", content)
        found[file.name] = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    return found


def kill_runs(kills: int, seed: int, root: Path) -> int:
    """Kill runs so many times; returns how many of the runs that were killed ended as the one that was not. Prints each."""
    rng = random.Random(seed)
    whole = root / "whole"
    whole.mkdir()
    begun = time.monotonic()
    assert start(whole).wait() == 0, (root / "whole.log").read_text()
    length, expected = time.monotonic() - begun, results(whole)
    done = runs = equal = killed_here = 0
    folder = root / "killed"
    folder.mkdir()
    while done < kills or killed_here:
        process = start(folder)
        stop = rng.choice(STOPS)
        try:
            status = process.wait(rng.uniform(0, length) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(stop)
            status = process.wait()
        if status == 0:
            if killed_here:
                found = results(folder)
                different = [name for name in sorted(expected | found) if found.get(name) != expected.get(name)]
                runs, equal = runs + 1, equal + (not different)
                print(f"run {runs}: {killed_here} kills, {', '.join(different) or 'equal'}", flush=True)
            shutil.rmtree(folder)
            folder.mkdir()
            killed_here = 0
            continue
        assert status in STATUS[stop], (
            f"status {status} after {stop.name}:\n{folder.with_suffix('.log').read_text()[-3000:]}"
        )
        done, killed_here = done + 1, killed_here + 1
    print(f"{done} kills, {runs} runs, {equal} equal to the run that was not killed (seed {seed})")
    return runs - equal


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as place:
        sys.exit(kill_runs(*(arguments + [50, 0][len(arguments) :]), Path(place)))
