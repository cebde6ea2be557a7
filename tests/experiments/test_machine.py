"""What a stored measurement says of the machine."""

import numpy as np
import pytest

from experiments.machine import measured_where

pytestmark = pytest.mark.q4


def test_a_record_names_the_kernels_that_numpy_runs():
    """Against NumPy's own word for the BLAS that it was built with."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert bool(measured_where()["blas_kernel"]) == ("openblas" in blas)
