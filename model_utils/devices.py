"""Where a backbone runs: on a graphics card or on the processor, in bfloat16 where that is fast."""

import torch

from model_utils.checks import check_choice

DEVICES = ("cpu", "cuda", "mps")


def choose_device(name=None):
    """Return the device of that name, or if None the first available one of a CUDA card, Apple's MPS and the processor.

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
        raise ValueError(f"device: {name} was asked for, and this machine or this PyTorch has none")
    return torch.device(name)


def has_fast_bfloat16(device):
    """Return whether the device multiplies in bfloat16 by its own instructions, twice as fast as in float32 or more.

    Where it has to imitate them, as processors without AVX-512 BF16 do, bfloat16 is far slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch asks the processor in this function only; it is not part of its documented interface.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
