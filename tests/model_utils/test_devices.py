"""Where a backbone runs, and in which precision."""

import platform
from pathlib import Path

import pytest
import torch

from model_utils.devices import choose_device, has_fast_bfloat16

pytestmark = pytest.mark.q3b

CPU = torch.device("cpu")


def test_a_device_is_chosen_by_name_or_is_the_fastest_there_is(monkeypatch):
    assert choose_device("cpu") == CPU
    for available, expected in (((True, True), "cuda"), ((False, True), "mps"), ((False, False), "cpu")):
        for module, is_available in zip((torch.cuda, torch.backends.mps), available, strict=True):
            monkeypatch.setattr(module, "is_available", lambda is_available=is_available: is_available)
        assert choose_device() == torch.device(expected)


def test_a_device_that_is_unknown_or_missing_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="device: expected one of cpu, cuda, mps, got 'tpu'"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: cuda is unavailable on this machine or in this build of PyTorch"):
        choose_device("cuda")


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch):
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        assert has_fast_bfloat16(CPU) is has_it
    assert not has_fast_bfloat16(torch.device("mps"))
    monkeypatch.undo()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and platform.machine() == "x86_64":
        assert has_fast_bfloat16(CPU) == ("avx512_bf16" in cpuinfo.read_text())
