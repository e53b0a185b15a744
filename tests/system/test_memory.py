"""Freed memory stays with the process once it is asked to, and never against the environment's word."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys
from respike.system.memory import keep_freed_memory
from respike.system.signals import run_command

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

def left():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    before, block = resident(), libc.malloc(200 << 20)
    ctypes.memset(block, 1, 200 << 20)
    libc.free(block)
    return resident() - before

first = left()
if sys.argv[1] == "command":
    run_command(lambda: print(first >> 10, left() >> 10))
keep_freed_memory()
print(first >> 10, left() >> 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
@pytest.mark.parametrize("caller", ["command", "function"])
@pytest.mark.parametrize("told", [False, True])
def test_what_a_block_of_200_mib_leaves(told, caller):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment |= {"MALLOC_TRIM_THRESHOLD_": "131072"} if told else {}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, caller], env=environment, capture_output=True, text=True, timeout=60
    )
    before, after = map(int, done.stdout.split())
    assert before < 20 and (after < 20 if told else after > 180)
