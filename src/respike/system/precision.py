"""Floating-point precision: the fastest that the hardware supports, and convolutions in full float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from omegaconf import OmegaConf


def fastest_precision(accelerator: str) -> str:
    """Lightning's `precision` for an accelerator: "bf16-mixed" if the hardware multiplies bfloat16, else "32-true".

    In a config: ${fastest_precision:cpu}.
    """
    if accelerator == "cpu":
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if fast else "32-true"


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolve float32 tensors in float32. By default cuDNN rounds them to TF32, with 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


OmegaConf.register_new_resolver("fastest_precision", fastest_precision, replace=True)
