"""Where a backbone runs: on a GPU or on the CPU, in bfloat16 where that is fast."""

import torch

from model_utils.checks import check_choice

DEVICES = ("cpu", "cuda", "mps")


def choose_device(name=None):
    """Return the named device or, without a name, the first available one of CUDA, MPS and the CPU.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not available.
    """
    is_available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if name is None:
        name = next(device for device, check in is_available.items() if check())
    check_choice("device", name, DEVICES)
    if not is_available[name]():
        raise ValueError(f"device: {name} is unavailable on this machine or in this build of PyTorch")
    return torch.device(name)


def has_fast_bfloat16(device):
    """Return whether the device has its own instructions for bfloat16, which are at least twice as fast as float32.

    A device that has to emulate them, like a CPU without AVX-512 BF16, is far slower in bfloat16 than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Only this function of PyTorch asks the CPU; it is not part of the documented interface.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
