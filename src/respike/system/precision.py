"""Floating-point precision: the fastest that the hardware supports, and products in full float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """Multiply float32 tensors in float32. cuDNN rounds them to TF32, with 10 bits of mantissa, by default; cuBLAS and oneDNN
    round them to TF32 or bfloat16 where torch.set_float32_matmul_precision allows it.
    """
    onednn: Any = torch.backends.mkldnn  # its attributes are made when it is imported
    products = onednn.conv, onednn.matmul, torch.backends.cuda.matmul
    before = torch.backends.cudnn.allow_tf32, [product.fp32_precision for product in products]
    torch.backends.cudnn.allow_tf32 = False
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        for product, precision in zip(products, before[1], strict=True):
            product.fp32_precision = precision


@contextmanager
def plain_sums() -> Iterator[None]:
    """Compute float32 products as sums of products, in any order, which is what error bounds of sums are about.

    As `full_float32`, and without the Winograd and Fourier transforms that cuDNN and NNPACK may use.
    """
    with full_float32(), torch.backends.cudnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


OmegaConf.register_new_resolver("fastest_precision", fastest_precision, replace=True)
