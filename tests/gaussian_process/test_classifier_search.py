"""The hyperparameters of NTKGaussianProcessClassifier: what is searched, and where it ends."""

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF

from sknk import NTKGaussianProcessClassifier
from sknk.gaussian_process import _classifying, _search
from sknk.kernels import NTK
from tests.cases import FREE, rows
from tests.gaussian_process.classifiers import (
    KERNEL,
    WEIGHTS,
    N,
    X,
    Y,
    assert_same,
    every,
    every_exact,
    known,
    searching,
)


def climbed(model):
    return model.loo_score_ if model.inference == "dirichlet" else model.log_marginal_likelihood()


@every_exact
def test_search_does_not_lower_its_score(way):
    found = searching(way, max_evaluations=100).fit(X, Y)
    start = 10.0 if found.inference == "dirichlet" else 4.0
    before = known(way, amplitude=start, alpha_eps=0.01).fit(X, Y)
    assert climbed(found) > climbed(before)
    assert climbed(found) >= climbed(searching(way, max_evaluations=1).fit(X, Y))


@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
def test_search_ends_where_the_score_is_flat(way):
    model = searching(way, max_evaluations=100).fit(X, Y, WEIGHTS)
    hyper = model._model.hyper
    kind = "loo" if way == "dirichlet" else "evidence"
    score = _classifying.evidence_of(model._model, hyper, kind, gradient=True)
    slope, (low, high) = hyper.flatten(score), hyper.bounds.T
    inside = (hyper.theta > low + 1e-6) & (hyper.theta < high - 1e-6)
    # A climb ends at relative changes of 1e-5: slopes of 1e-2 over curvatures of order one.
    assert np.abs(slope[inside]).max(initial=0.0) < 0.1


@every_exact
def test_restarts_do_not_lower_the_score(way):
    one = searching(way).fit(X, Y)
    more = searching(way, n_restarts_optimizer=2, random_state=0).fit(X, Y)
    assert climbed(more) >= climbed(one) - 1e-9
    assert_same(more, searching(way, n_restarts_optimizer=2, random_state=0).fit(X, Y))


@pytest.mark.parametrize("way", ["dirichlet", "laplace"])
def test_search_on_few_rows_ends_like_a_search_on_all(way, monkeypatch):
    x = rows(80, seed=14)
    x = x[np.argsort(x[:, 0])]  # sorted by class: some of the rows still have them all
    y = np.digitize(x[:, 0] + 0.5 * rows(80, 1, seed=15)[:, 0], [-0.4, 0.4])
    whole = searching(way, max_evaluations=100).fit(x, y)
    monkeypatch.setattr(_search, "_FEW_ROWS", 30)
    sizes, subset = [], _search.subset_of
    monkeypatch.setattr(_search, "subset_of", lambda n: sizes.append(subset(n)) or sizes[-1])
    parts = searching(way, max_evaluations=100).fit(x, y)
    assert [len(s) for s in sizes] == [30]
    assert climbed(parts) == pytest.approx(climbed(whole), abs=0.5)  # nats


def test_hyperparameters_are_named_in_the_order_of_theta():
    model = searching(kernel=NTK(depth=1, bias_var=0.2, weight_var_bounds=FREE)).fit(X, Y)
    names = ["kernel__bias_var", "kernel__weight_var", "amplitude", "alpha_eps"]
    assert sorted(model.hyperparameter_names_[:2]) == names[:2]
    assert model.hyperparameter_names_[2:] == names[2:]
    values = dict(zip(model.hyperparameter_names_, np.exp(model.theta_), strict=True))
    assert values["kernel__bias_var"] == pytest.approx(model.kernel_.bias_var)
    assert values["amplitude"] == pytest.approx(model.amplitude_)
    assert values["alpha_eps"] == pytest.approx(model.alpha_eps_)


@every_exact
def test_hyperparameters_given_as_numbers_stay(way):
    model = searching(way, amplitude=2.0, alpha_eps=0.07).fit(X, Y)
    assert model.amplitude_ == 2.0
    assert model.hyperparameter_names_ == ["kernel__bias_var"]
    if way != "laplace":
        assert model.alpha_eps_ == 0.07


@every
def test_hyperparameters_stay_within_bounds(way):
    model = searching(way, amplitude_bounds=(0.5, 0.6), alpha_eps_bounds=(0.2, 0.25)).fit(X, Y)
    # Logarithms round.
    assert 0.5 - 1e-12 <= model.amplitude_ <= 0.6 + 1e-12
    assert 0.2 - 1e-12 <= getattr(model, "alpha_eps_", 0.2) <= 0.25 + 1e-12


@every
def test_fit_without_optimizer_keeps_the_kernel(way):
    model = known(way).fit(X, Y)
    assert model.kernel_ == KERNEL
    assert model.amplitude_ == pytest.approx(3.0, rel=1e-12)


@every_exact
def test_fit_never_changes_the_kernel_it_was_given(way):
    kernel = NTK(depth=2, bias_var=0.1)
    model = searching(way, kernel).fit(X, Y)
    assert kernel == KERNEL
    assert model.kernel_ != kernel


@every_exact
def test_optimizer_may_be_a_function(way):
    seen = []

    def stay(function, theta, bounds):
        value, slope = function(theta)
        seen.append((theta, bounds, slope))
        assert function(theta, eval_gradient=False) == pytest.approx(value, rel=1e-9)
        return theta, value

    model = searching(way, optimizer=stay).fit(X, Y)
    theta, bounds, slope = seen[0]
    np.testing.assert_allclose(model.theta_, theta, rtol=1e-12)
    assert slope.shape == theta.shape
    assert bounds.shape == (len(theta), 2)


@every
def test_ard_frees_a_scale_for_every_feature(way):
    irrelevant = np.column_stack([X[:, 0], rows(N, 1, seed=13)])
    y = np.where(X[:, 0] > 0, "yes", "no")
    model = searching(way, ard=True, max_evaluations=30).fit(irrelevant, y)
    scales = model.kernel_.input_scale
    assert np.shape(scales) == (2,)
    assert "kernel__input_scale[1]" in model.hyperparameter_names_
    if way == "dirichlet":
        assert scales[0] > scales[1]


def test_default_kernel_is_ntk_with_bias():
    model = NTKGaussianProcessClassifier(optimizer=None, amplitude=3.0, alpha_eps=0.03).fit(X, Y)
    assert model.kernel_ == NTK(bias_var=0.1)


@every_exact
def test_sklearn_kernels_are_searched_like_ours(way):
    model = searching(way, RBF(), max_evaluations=30).fit(X, Y)
    assert isinstance(model.kernel_, RBF)
    assert model.kernel_.length_scale != 1.0
    assert climbed(model) > climbed(searching(way, RBF(length_scale_bounds="fixed")).fit(X, Y)) - 1
