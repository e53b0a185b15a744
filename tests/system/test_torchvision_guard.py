"""The guard makes torchvision importable beside any torch, and leaves a torchvision that works alone."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from respike.system import torchvision_guard

SYSTEM = Path(torchvision_guard.__file__).parent


def run_python(code: str, *path: Path) -> str:
    """stdout of `code` in a fresh interpreter that finds modules in `path` first; the folder of the guard is last."""
    lines = [f"import sys; sys.path[:0] = {[str(folder) for folder in (*path, SYSTEM)]}", code]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_torchvision_and_lightning_import_behind_the_guard_alone():
    """Declarations are made exactly where torchvision's own operators are missing."""
    printed = run_python(
        "import torchvision_guard, torchvision, pytorch_lightning\n"
        "from torchvision import datasets, transforms\n"
        "assert 'respike' not in sys.modules\n"
        "print(torchvision.extension._has_ops() is (torchvision_guard.DECLARED is None))"
    )
    assert printed == "True"


@pytest.mark.parametrize("name", torchvision_guard.LIBRARIES)
def test_nothing_is_declared_where_the_compiled_library_loads(tmp_path, name):
    """Any library that loads stands in for a fitting one: the guard must then leave the operators to it."""
    loadable = importlib.util.find_spec("_ctypes_test") or importlib.util.find_spec("numpy._core._multiarray_umath")
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('the guard must not import torchvision')")
    shutil.copy(loadable.origin, folder / f"{name}.so")
    printed = run_python(
        "import torch, torchvision_guard\n"
        "assert torchvision_guard.compiled_ops_load()\n"
        "print(torchvision_guard.DECLARED is None and not hasattr(torch.ops.torchvision, 'nms'))",
        tmp_path,
    )
    assert printed == "True"


def test_operators_declared_elsewhere_are_left_alone():
    printed = run_python(
        "import torch\n"
        "theirs = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "for name in ('nms', 'qnms'):\n"
        "    theirs.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "import torchvision_guard, torchvision\n"
        "print(torchvision_guard.DECLARED is None)"
    )
    assert printed == "True"


def test_a_second_call_declares_nothing():
    import torchvision  # noqa: F401

    assert torchvision_guard.declare_missing_ops() is None
