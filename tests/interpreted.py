"""Triton kernels for tests: on a CUDA device where there is one, else in Triton's interpreter."""

import importlib.util

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kernels_of(gpu):
    """What `gpu.triton_kernels()` gives; on a CPU the source runs on numpy. None without Triton."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("triton") and DEVICE.type == "cpu":
            importlib.import_module("triton")  # as ever; the interpreter is for our kernels alone
            patch.setenv("TRITON_INTERPRET", "1")  # read when they are defined
        return gpu.triton_kernels()


def needs(kernels):
    """The mark of tests that cannot do without."""
    return pytest.mark.skipif(kernels is None, reason="Triton is not installed (it comes with PyTorch for CUDA)")
