"""Calls a function in a new process, so that its peak memory, threads and failures do not affect other measurements."""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from respike.errors import explain
from respike.system.files import write_json
from respike.system.memory import keep_freed_memory

MIB = 1 << 20


def call(function: str, arguments: Mapping[str, Any], log: Path, limit: float, threads: int) -> dict[str, Any]:
    """`function(**arguments)` in a new process. Returns its result, or {"reason": why there is none}.

    function: "package.module.name"; its arguments and its result, a dict, must be JSON. log: file for its output.
    limit: seconds after which it is stopped. threads: of torch and of the libraries below it.
    The result also has `wall_s`, `peak_mib`, the largest memory of the process in MiB, and `allocator`. Freed memory is kept
    in every process: our fused training step asks for it, and no row may differ from another one in the allocator.
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
    if not answer.is_file():  # for example because the system ran out of memory
        return {"reason": f"the process died, see {log.name}"}
    return json.loads(answer.read_text())


def resolve(name: str) -> Any:
    """The object "package.module.name"."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    On Linux a child process inherits ru_maxrss of its parent; VmHWM in /proc starts at zero.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    allocator = keep_freed_memory()
    start = time.perf_counter()
    try:
        answer = resolve(job["function"])(**job["arguments"])
    except ModuleNotFoundError as error:
        return {"reason": f"not installed: {error.name} (make bench installs it)"}
    except Exception as error:
        if (line := explain(error)) is not None:
            return {"reason": line}
        traceback.print_exc()
        return {"reason": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    return answer | {"wall_s": time.perf_counter() - start, "peak_mib": peak_mib(), "allocator": allocator}


def main() -> None:
    """Read a job from stdin, run it and write its answer to the file that it names."""
    job = json.load(sys.stdin)
    write_json(job["answer"], _answer(job))


if __name__ == "__main__":
    main()
