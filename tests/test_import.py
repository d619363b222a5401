"""What importing costs: no third-party package that torch and scikit-learn do not load."""

import json
import subprocess
import sys

import pytest

ALLOWED = """
import joblib, numpy, scipy.linalg, scipy.optimize, scipy.sparse, scipy.special
import sklearn.base, sklearn.calibration, sklearn.gaussian_process.kernels, sklearn.kernel_ridge
import sklearn.metrics, sklearn.model_selection, threadpoolctl, torch, tqdm
import torch.autograd.forward_ad
"""
REPORT = """
import json, sys
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


def packages_after(code):
    """Top-level packages in a fresh interpreter that ran `code`, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code + REPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def allowed():
    return packages_after(ALLOWED) | set(sys.stdlib_module_names)


def test_import_loads_no_further_package(allowed):
    found = packages_after("import sknk, sknk.kernels")
    assert found - allowed == {"sknk"}
    assert not found & {"matplotlib", "gpytorch", "linear_operator", "dask", "distributed"}


def test_import_leaves_global_state_alone():
    code = """
import numpy, sklearn, torch, warnings
state, dtype, grad = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
threads, filters = torch.get_num_threads(), list(warnings.filters)
drawn = numpy.random.get_state()[1].tolist()
import sknk.kernels
assert torch.equal(state, torch.get_rng_state()) and dtype == torch.get_default_dtype()
assert grad == torch.is_grad_enabled() and threads == torch.get_num_threads()
assert filters == list(warnings.filters)
assert drawn == numpy.random.get_state()[1].tolist()
"""
    packages_after(code)


def test_first_use_loads_nothing_more(allowed):
    code = """
import numpy as np
from sknk.kernels import NTK
NTK(bias_var=0.1)(np.ones((3, 2)))
"""
    assert packages_after(code) - allowed == {"sknk"}
