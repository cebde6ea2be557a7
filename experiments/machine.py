"""What is stored about the machine and the code with every measurement."""

import platform
import re
import subprocess
from datetime import date
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

from experiments import ROOT


def measured_where():
    """Return the CPU, the threads, NumPy's kernels, the commit and the date."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "blas_kernel": blas_kernel(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }


# How many threads NumPy and PyTorch take.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# The instruction sets that make a difference here, by their flags in Linux.
INSTRUCTION_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


def processor_name():
    """Return the CPU's name; on Linux with family, model and instruction sets, as several can share a name."""
    cpuinfo = Path("/proc/cpuinfo")
    facts = dict(re.findall(r"^(.*?)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)) if cpuinfo.exists() else {}
    if "model name" not in facts:
        return platform.processor()
    flags = facts["flags"].split()
    sets = [title for flag, title in INSTRUCTION_SETS.items() if flag in flags]
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']}; {', '.join(sets)})"


def blas_kernel():
    """Return the kind of CPU whose kernels NumPy's OpenBLAS uses, such as SkylakeX; "" for another BLAS."""
    libraries = [library for library in threadpool_info() if library["internal_api"] == "openblas"]
    return next((library["architecture"] for library in libraries if "numpy" in library["filepath"]), "")


def commit():
    """Return the short hash of the checked-out commit, with a plus if tracked files differ from it; "" without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
