"""Compiled libraries: kept in a folder that only the user can write, and compiled again when they are not what was compiled."""

import ctypes
import os
import shutil
import subprocess
import sys

import pytest

from respike.system import compiler
from respike.system.compiler import Source, library

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library.cache_clear()
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }")
    yield path
    library.cache_clear()


def built(tmp_path):
    return sorted((tmp_path / "cache" / "respike" / "kernels").glob("*.so"))


def test_a_library_is_compiled_once_and_only_its_user_can_write_it(source, tmp_path):
    before = os.umask(0o000)
    try:
        assert library(Source.read(source)).answer() == 42
    finally:
        os.umask(before)
    (file,) = built(tmp_path)
    assert not file.stat().st_mode & 0o022 and not file.parent.stat().st_mode & 0o022
    changed = file.stat().st_mtime_ns
    library.cache_clear()
    assert library(Source.read(source)).answer() == 42 and file.stat().st_mtime_ns == changed


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "open", "undigested"])
def test_a_library_that_is_not_what_was_compiled_is_compiled_again(source, tmp_path, damage):
    """In processes of their own: a library that is loaded already would be found by its name."""
    call = [sys.executable, "-c", "import sys; from pathlib import Path; from respike.system.compiler import Source, library\n"
            "print(library(Source.read(Path(sys.argv[1]))).answer())", str(source)]  # fmt: skip
    subprocess.run(call, check=True)
    (file,) = built(tmp_path)
    whole = file.read_bytes()
    if damage in ("cut", "empty", "foreign"):
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "foreign": b"#!/bin/sh\n"}[damage])
    elif damage == "open":
        file.chmod(0o777)
    else:
        compiler._digest_file(file).unlink()
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    assert done.stdout == "42\n"
    assert not file.stat().st_mode & 0o022
    assert ctypes.CDLL(str(file)).answer() == 42


def test_the_instructions_of_the_processor_are_part_of_the_name(source, tmp_path, monkeypatch):
    library(Source.read(source))
    library.cache_clear()
    monkeypatch.setattr(compiler, "instructions", lambda: "fewer")
    library(Source.read(source))
    assert len(built(tmp_path)) == 2


def test_what_is_compiled_is_what_was_read_even_if_the_files_change(source, tmp_path):
    """A file that belongs to other code, as after a checkout while a process runs, and a second build later on."""
    header = tmp_path / "number.h"
    header.write_text("#define NUMBER 42\n")
    source.write_text('#include "number.h"\nint answer(void) { return NUMBER + OFFSET; }')
    read = Source.read(source)
    assert library(read, "-DOFFSET=0").answer() == 42
    header.unlink()
    source.write_text("int answer(void) { return 7; }")
    assert library(read, "-DOFFSET=1").answer() == 43
    assert library(Source.read(source)).answer() == 7
