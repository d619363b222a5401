import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sknk import NTKRidge, config_context
from sknk.features import EmpiricalNTKFeatures
from sknk.kernels import EmpiricalNTK
from tests.cases import rows
from tests.modules import mlp, seeded

X = rows(12, d=5)
NET = seeded(lambda: mlp(5, 3))


class Net:
    """Stands for a fitted net: its module is in ``module_``, and a clone would lose it."""

    def __init__(self, lr=0.1):
        self.lr = lr

    def get_params(self, deep=True):
        return {"lr": self.lr}

    def initialize(self):
        self.module_ = NET
        return self


@pytest.mark.parametrize("kind", ["trace", "pseudo", "sign"])
@pytest.mark.parametrize("sketch", ["rademacher", "sparse", "gaussian"])
def test_features_are_those_of_the_kernel(kind, sketch):
    features = EmpiricalNTKFeatures(NET, 20, kind=kind, sketch=sketch, random_state=3).fit(X)
    kernel = EmpiricalNTK(NET, kind, projection=20, sketch=sketch, random_state=3)
    Z = features.transform(X)
    np.testing.assert_array_equal(Z, kernel.features(X))
    # One sum over 20 features, in another order.
    np.testing.assert_allclose(Z @ Z.T, kernel(X), rtol=1e-12)


def test_features_approach_the_kernel_as_they_grow():
    K = EmpiricalNTK(NET)(X)
    Z = EmpiricalNTKFeatures(NET, 4096).fit_transform(X)
    # One standard error of 4096 signs is 1/64 of the norms.
    assert np.abs(Z @ Z.T - K).max() < 5.0 / 64.0 * np.diag(K).max()


def test_linear_model_on_features_is_ridge_with_the_kernel():
    y = X[:, 0] + np.sin(X[:, 1])
    model = make_pipeline(EmpiricalNTKFeatures(NET, 64), Ridge(0.1, fit_intercept=False)).fit(X, y)
    ridge = NTKRidge(EmpiricalNTK(NET, projection=64), alpha=0.1, fit_intercept=False).fit(X, y)
    # Normal equations of condition number 1e4 against Cholesky of the Gram matrix.
    np.testing.assert_allclose(model.predict(X), ridge.predict(X), rtol=1e-8)


def test_features_do_not_depend_on_chunks_or_order():
    whole = EmpiricalNTKFeatures(NET, 8).fit(X)
    parts = EmpiricalNTKFeatures(NET, 8, chunk_size=5).fit(X)
    np.testing.assert_allclose(parts.transform(X), whole.transform(X), rtol=1e-12)
    np.testing.assert_allclose(whole.transform(X[::-1])[::-1], whole.transform(X), rtol=1e-12)


def test_features_keep_the_weights_they_were_fitted_with():
    net = seeded(lambda: mlp(5, 3))
    model = EmpiricalNTKFeatures(net, 8).fit(X)
    before = model.transform(X)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    np.testing.assert_array_equal(model.transform(X), before)
    assert np.abs(model.fit(X).transform(X) - before).max() > 0.01


def test_clone_keeps_the_weights_of_a_net():
    model = clone(EmpiricalNTKFeatures(Net().initialize(), 8))
    np.testing.assert_array_equal(
        model.fit_transform(X), EmpiricalNTKFeatures(NET, 8).fit_transform(X)
    )


def test_grid_search_runs_over_features():
    y = X[:, 0]
    model = make_pipeline(EmpiricalNTKFeatures(NET, 8), Ridge())
    grid = {
        "empiricalntkfeatures__kind": ["trace", "pseudo"],
        "empiricalntkfeatures__n_components": [4, 16],
    }
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pickle_and_float32():
    model = EmpiricalNTKFeatures(NET, 8, dtype="float32").fit(X)
    Z = pickle.loads(pickle.dumps(model)).transform(X)
    assert Z.dtype == np.float32
    wanted = EmpiricalNTKFeatures(NET, 8).fit_transform(X)
    np.testing.assert_allclose(Z, wanted, atol=1e-5 * np.abs(wanted).max())


def test_failed_fit_leaves_the_features_as_they_were():
    model = EmpiricalNTKFeatures(NET, 8).fit(X)
    before = model.transform(X)
    with pytest.raises(ValueError, match="fails on inputs of shape"):
        model.fit(X[:, :4])
    np.testing.assert_array_equal(model.transform(X), before)


@pytest.mark.gpu
def test_features_on_cuda_are_those_on_the_cpu(cuda):
    wanted = EmpiricalNTKFeatures(NET, 8).fit_transform(X)
    with config_context(device="cuda"):
        found = EmpiricalNTKFeatures(NET, 8).fit_transform(X)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
