"""The search for hyperparameters: what it promises, what it prints, where it stops."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel

from sknk import NotPSDError, NTKGaussianProcessRegressor
from sknk.gaussian_process._evidence import ExactEvidence
from sknk.gaussian_process._hyperparameters import Hyperparameters, Scalar, Score, maximize
from sknk.gaussian_process._search import subset_of, with_feature_scales
from sknk.kernels import NNGP, NTK
from tests.cases import rows
from tests.gaussian_process.problems import KERNEL, free


def fitted(table, **options):
    return NTKGaussianProcessRegressor(**{"kernel": KERNEL, **options}).fit(table.X, table.y)


def evidence_of(model):
    return model.log_marginal_likelihood_value_


class Recorder:
    """An optimizer that notes its calls and goes nowhere."""

    def __init__(self):
        self.calls = []

    def __call__(self, obj_func, initial_theta, bounds):
        self.calls.append((initial_theta.copy(), bounds.copy()))
        value, gradient = obj_func(initial_theta)
        assert obj_func(initial_theta, eval_gradient=False) == value
        assert gradient.shape == initial_theta.shape
        return initial_theta, value


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prior": "student"},
        {"ard": True},
        {"posterior": "nngp"},
        {"rank": 8},
        {"normalize_y": True},
    ],
    ids=str,
)
def test_search_improves_the_evidence(table, options):
    start = fitted(table, optimizer=Recorder(), random_state=0, **options)
    steps = [fitted(table, max_evaluations=n, random_state=0, **options) for n in (3, 100)]
    assert evidence_of(start) < evidence_of(steps[0]) <= evidence_of(steps[1])


def test_search_is_as_good_as_sklearn(table):
    other = GaussianProcessRegressor(ConstantKernel(1.0) * KERNEL + WhiteKernel(0.1), alpha=0.0)
    other.fit(table.X, table.y)
    # Both stop where the evidence changes by less than 1e-5 of itself.
    assert evidence_of(fitted(table)) >= other.log_marginal_likelihood_value_ - 1e-2


def test_search_ends_where_the_gradient_is_small_or_a_bound_holds(table):
    model = fitted(table)
    gradient = model.log_marginal_likelihood(model.theta_, eval_gradient=True)[1]
    at_bound = np.isclose(model.theta_, model._model.hyper.bounds.T, atol=1e-6).any(axis=0)
    # A relative change of 1e-5 of some 20 nats, one unit of log-theta wide.
    assert np.abs(gradient[~at_bound]).max(initial=0.0) < 0.1


def test_optimizer_may_be_a_function_as_in_sklearn(table):
    recorder = Recorder()
    model = fitted(table, optimizer=recorder)
    ((start, bounds),) = recorder.calls
    np.testing.assert_allclose(model.theta_, start)
    assert bounds.shape == (3, 2)
    assert ((bounds[:, 0] <= start) & (start <= bounds[:, 1])).all()

    def nelder_mead(obj_func, initial_theta, bounds):
        found = minimize(
            lambda theta: obj_func(theta, eval_gradient=False),
            initial_theta,
            bounds=bounds,
            method="Nelder-Mead",
        )
        return found.x, found.fun

    assert evidence_of(fitted(table, optimizer=nelder_mead)) == pytest.approx(
        evidence_of(fitted(table)), abs=1e-2
    )


@pytest.mark.parametrize("prior", ["gaussian", "student"])
def test_restarts_are_no_worse(table, prior):
    few, many = (
        fitted(table, prior=prior, n_restarts_optimizer=n, random_state=0, max_evaluations=20)
        for n in (0, 3)
    )
    assert evidence_of(many) >= evidence_of(few)


def test_restarts_begin_inside_the_bounds_and_repeat_with_their_seed(table):
    starts = []
    for seed in (0, 0, 1):
        recorder = Recorder()
        fitted(table, optimizer=recorder, n_restarts_optimizer=3, random_state=seed)
        starts.append(np.array([start for start, _ in recorder.calls]))
        bounds = recorder.calls[0][1]
        assert ((bounds[:, 0] <= starts[-1]) & (starts[-1] <= bounds[:, 1])).all()
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0][1:] != starts[2][1:]).all()


def test_restarts_raise_when_bounds_are_infinite(table):
    with pytest.raises(ValueError, match=r"bounds of \['noise_variance'\] are not finite"):
        fitted(table, noise_variance_bounds=(1e-6, np.inf), n_restarts_optimizer=2)


def test_bounds_hold_and_are_relative_to_the_targets(table):
    square, slack = (table.y**2).mean(), 1.0 + 1e-9  # a logarithm and back
    pairs = {"noise_variance": (0.5, 0.6), "amplitude": (3.0, 3.1), "prior_df": (20.0, 25.0)}
    options = {f"{name}_bounds": pair for name, pair in pairs.items()}
    model = fitted(table, prior="student", **options)
    for name, (low, high) in pairs.items():
        found = getattr(model, f"{name}_") / (1.0 if name == "prior_df" else square)
        assert low / slack <= found <= high * slack


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["kernel__bias_var", "amplitude", "noise_variance"]),
        ({"amplitude": 1.0}, ["kernel__bias_var", "noise_variance"]),
        ({"noise_variance": 0.1, "kernel": NTK()}, ["amplitude"]),
        (
            {"prior": "student", "amplitude": 1.0},
            ["kernel__bias_var", "noise_variance", "prior_df"],
        ),
        (
            {"prior": "student", "prior_df": 5.0},
            ["kernel__bias_var", "amplitude", "noise_variance"],
        ),
        ({"kernel": NTK(), "amplitude": 1.0, "noise_variance": 0.1}, []),
        (
            {"kernel": 2.0 * NNGP(), "ard": True, "amplitude": 1.0},
            [
                "kernel__scale",
                *(f"kernel__kernel__input_scale[{i}]" for i in range(3)),
                "noise_variance",
            ],
        ),
    ],
)
def test_theta_is_named_and_holds_logarithms(table, options, names):
    model = free(**options).fit(table.X, table.y)
    assert model.hyperparameter_names_ == names
    assert model.theta_.shape == (len(names),)
    n_kernel = model.kernel_.n_dims
    np.testing.assert_allclose(model.theta_[:n_kernel], model.kernel_.theta)
    tail = [getattr(model, f"{name}_") for name in names[n_kernel:]]
    np.testing.assert_allclose(np.exp(model.theta_[n_kernel:]), tail)


def test_optimizer_none_keeps_every_number(table):
    kernel = NTK(depth=1, bias_var=0.37)
    model = NTKGaussianProcessRegressor(
        kernel, amplitude=1.7, noise_variance=0.11, prior="student", prior_df=7.0, optimizer=None
    ).fit(table.X, table.y)
    assert model.kernel_ == kernel
    assert (model.amplitude_, model.noise_variance_, model.prior_df_) == (1.7, 0.11, 7.0)


def test_ard_finds_the_features_that_matter():
    X = rows(80, 4, seed=31)
    y = np.sin(2 * X[:, 0]) + 0.05 * np.random.default_rng(0).standard_normal(80)
    model = NTKGaussianProcessRegressor(NTK(depth=1, bias_var=0.1), ard=True).fit(X, y)
    scales = np.abs(model.kernel_.input_scale)
    assert scales[0] > 5 * scales[1:].max()
    plain = NTKGaussianProcessRegressor(NTK(depth=1, bias_var=0.1)).fit(X, y)
    assert evidence_of(model) > evidence_of(plain) + 10


def test_ard_frees_every_input_scale_and_copies_the_kernel():
    kernel = NTK(depth=1) + 0.5 * NNGP(input_scale=0.7, input_scale_bounds=(0.1, 2.0))
    found = with_feature_scales(kernel, 3)
    np.testing.assert_array_equal(found.k1.input_scale, np.ones(3))
    np.testing.assert_array_equal(found.k2.kernel.input_scale, np.full(3, 0.7))
    assert found.k1.input_scale_bounds == (1e-3, 1e2)
    assert found.k2.kernel.input_scale_bounds == (0.1, 2.0)
    assert kernel.k1.input_scale == 1.0


def test_long_tables_are_climbed_on_some_rows_first():
    assert subset_of(599) is None
    np.testing.assert_array_equal(np.diff(subset_of(600)) > 0, True)
    assert len(subset_of(600)) == 300
    assert len(subset_of(10_000)) == 2000
    assert (subset_of(10_000)[0], subset_of(10_000)[-1]) == (0, 9999)


def test_long_tables_get_the_evidence_of_all_rows():
    X = rows(620)
    y = X[:, 0] + 0.1 * np.random.default_rng(0).standard_normal(620)
    recorder = Recorder()
    options = {"amplitude": 1.0, "max_evaluations": 2}
    model = NTKGaussianProcessRegressor(NTK(depth=1), optimizer=recorder, **options).fit(X, y)
    assert len(recorder.calls) == 2  # 300 rows, then all
    at_theta = model.log_marginal_likelihood(model.theta_)
    assert evidence_of(model) == pytest.approx(at_theta, rel=1e-9)


def test_fixed_kernel_is_evaluated_once(table, monkeypatch):
    calls, gram = [], NTK.__call__

    def counting(self, X, Y=None, eval_gradient=False):
        calls.append(len(X))
        return gram(self, X, Y, eval_gradient)

    monkeypatch.setattr(NTK, "__call__", counting)
    fitted(table, kernel=NTK())
    assert len(calls) <= 2  # for the whole search, and for the final factor


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 8},
        {"evidence": "stochastic", "max_epochs": 2},
        {"rank": 8, "evidence": "stochastic"},
    ],
    ids=str,
)
def test_progress_goes_to_stderr_when_verbose(table, options, capsys):
    quick = {"max_evaluations": 2, "max_epochs": 2, "random_state": 0, **options}
    fitted(table, verbose=0, **quick)
    assert capsys.readouterr() == ("", "")
    fitted(table, verbose=1, **quick)
    out, err = capsys.readouterr()
    assert out == ""
    assert err


# --- points where there is no evidence -----------------------------------------------------------


def test_search_survives_points_without_a_factorization():
    start = Hyperparameters(NTK(), {"amplitude": Scalar(1.0, (1e-3, 1e3))})

    def score(hyper):
        log = np.log(hyper["amplitude"])
        if log > 1.0:
            raise NotPSDError("K + noise is not positive definite")
        return Score(log, None, {"amplitude": 1.0})

    best, value = maximize(score, start)[:2]
    assert 0.0 < value <= 1.0
    assert np.log(best["amplitude"]) == pytest.approx(value)


def test_search_raises_when_the_start_has_no_factorization():
    start = Hyperparameters(NTK(), {"amplitude": Scalar(1.0, (1e-3, 1e3))})

    def score(hyper):
        raise NotPSDError("K + noise is not positive definite")

    with pytest.raises(NotPSDError, match="not positive definite"):
        maximize(score, start)


@pytest.mark.parametrize(
    ("value", "slope", "message"),
    [
        (np.nan, 1.0, r"The evidence \(nan\) is not finite at amplitude=[0-9.]+\. Narrow"),
        (-np.inf, 1.0, r"The evidence \(-inf\) is not finite at amplitude=[0-9.]+\. Narrow"),
        (1.0, np.nan, r"The gradient in \['amplitude'\] is not finite at amplitude=[0-9.]+\."),
    ],
)
def test_search_raises_when_the_evidence_is_not_finite(table, monkeypatch, value, slope, message):
    def broken(self, hyper, *, gradient=True):
        return Score(value, None, {"amplitude": slope})

    monkeypatch.setattr(ExactEvidence, "__call__", broken)
    model = NTKGaussianProcessRegressor(NTK(), noise_variance=0.1)
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, table.y)
    assert not hasattr(model, "theta_")


def test_search_raises_when_the_kernel_is_not_finite(table):
    class Broken(NTK):
        """An NTK whose entries are nan for all but tiny bias variances."""

        def _tile(self, rx, ry, values):
            K = super()._tile(rx, ry, values)
            return torch.where(values["bias_var"] > 1e-3, torch.nan, K)

    model = NTKGaussianProcessRegressor(Broken(bias_var=0.1))
    with pytest.raises(ValueError, match=r"finite.*bias_var=0.1"):
        model.fit(table.X, table.y)
    assert not hasattr(model, "theta_")
