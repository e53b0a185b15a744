import pytest
import torch

from respike.system.precision import fastest_precision, full_float32


@pytest.mark.parametrize(
    ("known", "expected"), [({"avx512_bf16": True}, "bf16-mixed"), ({"avx512_f": True}, "32-true")]
)
def test_bfloat16_is_used_where_the_processor_multiplies_it(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert fastest_precision("cpu") == expected


def test_without_a_gpu_a_gpu_run_asks_for_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fastest_precision("gpu") == "32-true"


def test_float32_is_whole_for_a_while(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with pytest.raises(RuntimeError), full_float32():
        assert not torch.backends.cudnn.allow_tf32
        raise RuntimeError
    assert torch.backends.cudnn.allow_tf32
