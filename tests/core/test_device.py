"""Which number format runs where, and which devices there are."""

from __future__ import annotations

import pytest
import torch

from hypir_core import device as device_room
from hypir_core.device import pick_device, pick_dtype
from hypir_core.errors import ConfigError

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
ALL = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize(
    ("where", "quick", "tested", "chosen"),
    [
        (CPU, None, ALL, torch.float32),
        (CPU, "AMX", ALL, torch.bfloat16),
        (CPU, "AVX512", ALL, torch.bfloat16),
        (CPU, "AMX", ("float32",), torch.float32),
        (CUDA, True, ALL, torch.bfloat16),
        (CUDA, True, ("float32", "float16"), torch.float16),
        (CUDA, False, ALL, torch.float16),
        (CUDA, False, ("float32", "bfloat16"), torch.float32),
        (MPS, None, ALL, torch.float16),
    ],
)
def test_auto_takes_the_quickest_format_that_was_tested(where, quick, tested, chosen, monkeypatch):
    """`quick`: the units that a CPU has, or whether a graphics card has bfloat16."""
    monkeypatch.setattr(device_room, "cpu_bfloat16_units", lambda: quick)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: quick)
    assert pick_dtype("auto", where, tested) is chosen
    for name in ALL:
        assert pick_dtype(name, where, tested) is getattr(torch, name)


def test_what_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    for name, said in (
        ("cuda", "torch sees 0 CUDA devices; use --device cpu or auto"),
        ("mps", "is not there on this machine"),
        ("gpu", "device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ("cpu:1", "device must be"),
    ):
        with pytest.raises(ConfigError, match=said):
            pick_device(name)
    with pytest.raises(ConfigError, match="dtype must be auto, float32, bfloat16, float16, got 'half'"):
        pick_dtype("half", CPU, ALL)
