"""A function in a process of its own, so that its peak memory, its threads and its failure are its own."""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from respike.errors import explain
from respike.system.files import write_json

MIB = 1 << 20


def call(function: str, log: Path, limit: float, threads: int, **arguments: Any) -> dict[str, Any]:
    """`function(**arguments)` in a fresh process; what it returned, or {"reason": why there is nothing}.

    function: "package.module.name" of a function that takes and returns what JSON can hold; log: file for what it prints;
    limit: seconds until it is stopped; threads: of torch and of every other library that asks.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    answer = log.with_suffix(".json")
    answer.unlink(missing_ok=True)
    job = json.dumps({"function": function, "threads": threads, "arguments": arguments, "answer": str(answer)})
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    with log.open("w") as file:
        try:
            subprocess.run(
                [sys.executable, "-m", "respike.bench.isolated"],
                input=job, text=True, stdout=file, stderr=subprocess.STDOUT, env=environment, timeout=limit,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"reason": f"stopped after {limit:.0f} s"}
    if not answer.is_file():
        return {"reason": f"died, see {log.name}"}  # killed for its memory, perhaps
    return json.loads(answer.read_text())


def resolve(name: str) -> Any:
    """The object called "package.module.name"."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB.

    Linux hands ru_maxrss of the parent on to a child that it starts; VmHWM of /proc is the process's own.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    start = time.perf_counter()
    try:
        answer = resolve(job["function"])(**job["arguments"])
    except ModuleNotFoundError as error:
        return {"reason": f"not installed: {error.name} (requirements-bench.txt)"}
    except Exception as error:
        if (line := explain(error)) is not None:
            return {"reason": line}
        traceback.print_exc()
        return {"reason": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    return answer | {"wall_s": time.perf_counter() - start, "peak_mib": peak_mib()}


def main() -> None:
    """Read a job from stdin, leave its answer in the file it names."""
    job = json.load(sys.stdin)
    write_json(job["answer"], _answer(job))


if __name__ == "__main__":
    main()
