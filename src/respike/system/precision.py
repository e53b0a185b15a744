"""The arithmetic of a machine: the quickest, which a config asks for as ${fastest_precision:<accelerator>}; whole float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from omegaconf import OmegaConf


def fastest_precision(accelerator: str) -> str:
    """Lightning's name of it: convolutions in bfloat16 where the processor multiplies such numbers, else all in float32."""
    if accelerator == "cpu":
        known = torch.cpu.get_capabilities()
        fast = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if fast else "32-true"


@contextmanager
def whole_float32() -> Iterator[None]:
    """Convolutions of float32 numbers keep all of their bits, which by default they do not on a GPU (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


OmegaConf.register_new_resolver("fastest_precision", fastest_precision, replace=True)
