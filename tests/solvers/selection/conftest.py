"""Rows to choose from: as features, as a stored kernel, by an infinite one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sknk.kernels import NTK
from sknk.solvers import DenseGram, FeatureGram, KernelGram
from tests.solvers.selection.forms import WIDTH, N, rows


@pytest.fixture(params=["features", "dense", "ntk"])
def problem(request):
    """A Gram operator of N rows, and the matrix K that it is."""
    Phi = rows(N)
    if request.param == "ntk":
        gram = KernelGram(NTK(depth=2, bias_var=0.1), Phi)
        return SimpleNamespace(gram=gram, K=gram.dense().numpy())
    K = Phi @ Phi.T
    gram = FeatureGram(Phi) if request.param == "features" else DenseGram(K)
    return SimpleNamespace(gram=gram, K=K.numpy())


@pytest.fixture(params=[0, 3, WIDTH + 4], ids=["none", "few", "more_than_features"])
def given(request):
    """Rows that are given, in no order."""
    return torch.from_numpy(np.random.default_rng(1).permutation(N)[: request.param])
