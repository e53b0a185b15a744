"""The arithmetic a machine is quickest in; a config asks for it as ${fastest_precision:<accelerator>}."""

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


OmegaConf.register_new_resolver("fastest_precision", fastest_precision, replace=True)
