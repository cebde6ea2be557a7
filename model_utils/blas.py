"""Import this before NumPy: it has OpenBLAS, which multiplies NumPy's matrices, use all that the processor has.

NumPy's OpenBLAS carries kernels for several kinds of processor and picks one as it is loaded. On AMD processors with
AVX-512 it picks those for AVX2, which do half of the work in each instruction. The environment variable
OPENBLAS_CORETYPE overrides the choice, without a check: kernels that the processor does not understand crash Python. So
it is set here only for processors that name every instruction set which the AVX-512 kernels, SkylakeX, are made of.

To switch this off, set OPENBLAS_CORETYPE yourself, for example to Haswell, the kernels for AVX2.
"""

import os
import re
from pathlib import Path

AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def core_type(cpuinfo):
    """Return the kernels to ask for, or None to leave the choice to OpenBLAS.

    Parameters
    ----------
    cpuinfo : str
        What Linux says of the processor, the text of /proc/cpuinfo.
    """
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if "AuthenticAMD" in cpuinfo and flags and set(flags[1].split()) >= AVX512:
        return "SkylakeX"
    return None


def _set_core_type():
    cpuinfo = Path("/proc/cpuinfo")
    if "OPENBLAS_CORETYPE" not in os.environ and cpuinfo.exists():
        kernels = core_type(cpuinfo.read_text())
        if kernels:
            os.environ["OPENBLAS_CORETYPE"] = kernels


_set_core_type()
