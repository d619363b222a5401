"""Rows to attribute and rows to judge on."""

from types import SimpleNamespace

import numpy as np
import pytest

from sknk import NTKRidge, NTKRidgeClassifier
from tests.attribution.families import KERNEL, table


@pytest.fixture
def data():
    """Rows (16, 3) with two targets and three classes, and 10 to judge on."""
    X, Y, X_val, Y_val = table(16, 10)
    edges = np.quantile(Y[:, 0], [1 / 3, 2 / 3])
    letters = np.array(["a", "b", "c"])
    return SimpleNamespace(
        X=X,
        y=Y[:, 0],
        Y=Y,
        classes=letters[np.digitize(Y[:, 0], edges)],
        X_val=X_val,
        y_val=Y_val[:, 0],
        Y_val=Y_val,
        classes_val=letters[np.digitize(Y_val[:, 0], edges)],
        weights=np.random.default_rng(9).uniform(0.2, 3.0, 16),
        ridge=NTKRidge(KERNEL, alpha=0.4),
        classifier=NTKRidgeClassifier(KERNEL, alpha=0.4),
    )
