import numpy as np
import pytest
import torch

from sknk.solvers import DenseGram, FeatureGram, frank_wolfe
from tests.reference import linalg
from tests.reference import selection as oracle
from tests.solvers.selection.forms import N


def explicit(K):
    """Return features of a Gram matrix."""
    values, V = np.linalg.eigh(K)
    return V * np.sqrt(values.clip(min=0.0))


def test_frank_wolfe_equals_explicit_features(problem):
    found = frank_wolfe(problem.gram, 15)
    assert found.tolist() == oracle.frank_wolfe(explicit(problem.K), 15)


def test_frank_wolfe_starts_along_the_sum_of_all():
    K = linalg.random_gram(N)
    first = frank_wolfe(DenseGram(torch.from_numpy(K)), 1)
    assert first.tolist() == [(K.sum(1) / np.sqrt(np.diag(K))).argmax()]


def test_frank_wolfe_takes_rows_of_zeros_last():
    Phi = torch.zeros(6, 2).double()
    Phi[[1, 4]] = torch.eye(2).double()
    for gram in (FeatureGram(Phi), DenseGram(Phi @ Phi.T)):
        assert sorted(frank_wolfe(gram, 6)[:2].tolist()) == [1, 4]


def test_frank_wolfe_returns_nothing_when_asked_for_nothing(problem):
    found = frank_wolfe(problem.gram, 0)
    assert (found.dtype, found.shape) == (torch.long, (0,))


@pytest.mark.parametrize("n", [10, 400])
def test_columns_of_wide_features_are_read_ahead(n, monkeypatch):
    Phi = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 128)) + 0.3)
    read, whole = [], FeatureGram.block
    monkeypatch.setattr(
        FeatureGram, "block", lambda self, i, j: read.append(len(j)) or whole(self, i, j)
    )
    size = min(n, 200)  # columns of 64 rows are held
    found = frank_wolfe(FeatureGram(Phi), size)
    assert found.tolist() == frank_wolfe(DenseGram(Phi @ Phi.mT), size).tolist()
    assert len(read) <= size // 2
    assert max(read) == min(n, 16)
