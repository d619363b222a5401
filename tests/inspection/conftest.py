"""Figures without a screen, closed after each test; a small table and models fitted to it."""

import sys
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknk.kernels import NTK
from tests.cases import rows

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    """Close what a test has drawn."""
    yield
    plt.close("all")


@pytest.fixture
def no_matplotlib(monkeypatch):
    """Make matplotlib impossible to import."""
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)


def process():
    """A Gaussian process with a tangent kernel, nothing optimized."""
    return GaussianProcessRegressor(NTK(depth=2, bias_var=0.1), alpha=0.05, optimizer=None)


@pytest.fixture
def line():
    """One feature: rows (15, 1), targets, a fitted Gaussian process."""
    X = np.sort(rows(15, 1, seed=1), axis=0)
    y = np.sin(2 * X[:, 0])
    return SimpleNamespace(X=X, y=y, model=process().fit(X, y))


@pytest.fixture
def table():
    """Three named features with other scales: a frame (20, 3), targets, a fitted pipeline."""
    X = pd.DataFrame(rows(20, 3, seed=2) * [1.0, 10.0, 0.1] + [0, 5, 1], columns=["a", "b", "c"])
    y = (X["a"] + 0.1 * X["b"] ** 2 / 10).rename("yield")
    model = make_pipeline(StandardScaler(), process()).fit(X, y)
    return SimpleNamespace(X=X, y=y, model=model)
