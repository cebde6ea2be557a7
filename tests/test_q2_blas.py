"""The choice of OpenBLAS's kernels: AVX-512 only on AMD processors that have all of it."""

import os
import platform
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from model_utils.blas import AVX512, core_type
from tests.notebooks import ROOT

OTHERS = "fpu sse2 avx avx2 fma"


def cpuinfo(vendor, flags):
    return f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\nbugs\t\t: none\n\nprocessor\t: 1\n"


def test_avx512_kernels_for_an_amd_processor_that_has_all_of_it():
    assert core_type(cpuinfo("AuthenticAMD", f"{OTHERS} {' '.join(AVX512)} avx512_bf16")) == "SkylakeX"


@pytest.mark.parametrize("missing", sorted(AVX512))
def test_no_avx512_kernels_where_one_instruction_set_is_missing(missing):
    # avx512_bf16 and the like must not be taken for what is missing.
    assert core_type(cpuinfo("AuthenticAMD", f"{OTHERS} {' '.join(AVX512 - {missing})} avx512_bf16")) is None


@pytest.mark.parametrize("text", [cpuinfo("GenuineIntel", " ".join(AVX512)), "", "AuthenticAMD without flags"])
def test_the_choice_is_left_to_openblas_elsewhere(text):
    assert core_type(text) is None


def output_of(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("module", ["mlp", "cnn", "data_preparation", "benchmarks.cnn_epoch"])
def test_the_choice_is_made_before_numpy_is_loaded(module):
    order = output_of(f"import {module}, sys; print(*sys.modules)").split()
    assert order.index("model_utils.blas") < order.index("numpy")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not any(library["internal_api"] == "openblas" for library in threadpool_info()),
    reason="NumPy has no OpenBLAS for x86 here",
)
def test_a_choice_made_outside_is_respected():
    program = "import mlp, threadpoolctl; print([lib.get('architecture') for lib in threadpoolctl.threadpool_info()])"
    assert "Nehalem" in output_of(program, OPENBLAS_CORETYPE="Nehalem")
