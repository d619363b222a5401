"""Lower bounds of the evidence: what they bound, where they touch, how they slope."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import _regression_dataset

from sknk import NTKGaussianProcessRegressor
from sknk._training import merge_rows
from sknk.gaussian_process._bounds import MinibatchEvidence, SparseEvidence, ascend
from sknk.gaussian_process._evidence import ExactEvidence, Observations
from sknk.gaussian_process._hyperparameters import Hyperparameters, Scalar
from sknk.kernels import NTK
from sknk.solvers import Cholesky
from tests.gaussian_process.problems import AMPLITUDE, KERNEL, NOISE

BOUNDS = (1e-3, 1e3)
# Two routes to one answer: float64 rounding times condition numbers below 1e3.
RTOL = 1e-9


def observed(table, weights=None, own=None):
    training = merge_rows(table.X, table.Y, weights, precomputed=False)
    return Observations.of(training, training.Y, own)


def numbers(kernel=KERNEL):
    scalars = {"amplitude": Scalar(AMPLITUDE, BOUNDS), "noise_variance": Scalar(NOISE, BOUNDS)}
    return Hyperparameters(kernel, scalars)


def moved(hyper, shift=0.3):
    return hyper.at(hyper.theta + shift * np.linspace(-1, 1, len(hyper.theta)))


def differences(score, hyper, step=1e-5):
    shifts = step * np.eye(len(hyper.theta))
    ends = [[score(hyper.at(hyper.theta + s * e)).value for s in (1, -1)] for e in shifts]
    return np.array([(up - down) / (2 * step) for up, down in ends])


def minibatches(data, here, there):
    """The bound with the dual of one point, at another; by batch."""
    alpha = ExactEvidence(data, Cholesky()).solve(here)[1]
    return lambda batch, hyper=there: MinibatchEvidence(data, alpha)(hyper, torch.as_tensor(batch))


CASES = {
    "plain": {},
    "weighted": {"weights": True},
    "heteroscedastic": {"own": True},
    "both": {"weights": True, "own": True},
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def data_of(table, case):
    weights = table.weights if "weights" in case else None
    return observed(table, weights, table.variances if "own" in case else None)


# --- minibatches ---------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("n_batches", [2, 5])
def test_minibatch_bound_averages_below_the_evidence(table, case, n_batches):
    data, here = data_of(table, case), numbers()
    exact = ExactEvidence(data, Cholesky())
    order = np.random.default_rng(0).permutation(16)
    for there in (here, moved(here)):
        bound = minibatches(data, here, there)
        parts = np.array_split(order, n_batches)
        mean = sum(len(part) / 16 * bound(part).value for part in parts)
        assert mean < exact(there).value


@every
def test_minibatch_bound_of_all_rows_is_the_evidence(table, case):
    data, here = data_of(table, case), numbers()
    found = minibatches(data, here, here)(np.random.default_rng(0).permutation(16))
    expected = ExactEvidence(data, Cholesky())(here)
    np.testing.assert_allclose(found.value, expected.value, rtol=RTOL)
    # It touches the evidence from below, so the slopes agree too.
    np.testing.assert_allclose(here.flatten(found), here.flatten(expected), rtol=1e-7)


def test_minibatch_bound_is_loose_where_the_dual_is_not_the_models(table):
    data, here = observed(table), numbers()
    there = moved(here, 1.0)
    found = minibatches(data, here, there)(np.arange(16)).value
    assert found < ExactEvidence(data, Cholesky())(there).value - 1e-3


@every
def test_minibatch_gradient_equals_finite_differences(table, case):
    data, here = data_of(table, case), numbers()
    bound, there, batch = minibatches(data, here, None), moved(here), np.array([3, 11, 0, 8, 5])
    found = there.flatten(bound(batch, there))
    # Central differences: their step squared, and eps times 100 nats over the step.
    expected = differences(lambda hyper: bound(batch, hyper), there)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_minibatch_gradient_of_a_fixed_kernel_has_no_kernel_part(table):
    data, here = observed(table), numbers(NTK())
    bound, batch = minibatches(data, here, None), np.arange(6)
    expected = differences(lambda hyper: bound(batch, hyper), here)
    np.testing.assert_allclose(here.flatten(bound(batch, here)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_size", [5, 100])
def test_ascent_keeps_the_best_evidence_it_met(table, batch_size):
    data, start = observed(table), moved(numbers(), 2.0)
    exact = ExactEvidence(data, Cholesky())
    best, value = ascend(
        data,
        start,
        Cholesky(),
        batch_size=batch_size,
        max_epochs=20,
        learning_rate=0.05,
        generator=torch.Generator().manual_seed(0),
    )
    assert value > exact(start).value + 1.0
    np.testing.assert_allclose(exact(best).value, value, rtol=RTOL)


def test_ascent_stays_within_bounds(table):
    tight = {"amplitude": Scalar(2.0, (1.9, 2.1)), "noise_variance": Scalar(0.3, (0.29, 0.31))}
    start = Hyperparameters(KERNEL, tight)
    options = {"batch_size": 5, "max_epochs": 5, "learning_rate": 1.0}
    generator = torch.Generator().manual_seed(0)
    best, _ = ascend(observed(table), start, Cholesky(), generator=generator, **options)
    assert 1.9 <= best["amplitude"] <= 2.1
    assert 0.29 <= best["noise_variance"] <= 0.31


def test_stochastic_evidence_comes_close_to_the_exact_optimum(table):
    exact = NTKGaussianProcessRegressor(KERNEL).fit(table.X, table.y)
    stochastic = NTKGaussianProcessRegressor(
        KERNEL, evidence="stochastic", batch_size=16, max_epochs=100, random_state=0
    ).fit(table.X, table.y)
    gap = exact.log_marginal_likelihood_value_ - stochastic.log_marginal_likelihood_value_
    assert -1e-3 < gap < 0.3


def test_stochastic_evidence_repeats_with_its_seed(table):
    options = {"evidence": "stochastic", "batch_size": 5, "max_epochs": 3}
    one, two, other = (
        NTKGaussianProcessRegressor(random_state=seed, **options).fit(table.X, table.y)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.theta_, two.theta_)
    assert (one.theta_ != other.theta_).any()


# --- inducing rows -------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_sparse_bound_is_below_the_evidence(table, case, rank):
    data, exact = data_of(table, case), ExactEvidence(data_of(table, case), Cholesky())
    bound = SparseEvidence(data, data.X[:rank])
    for hyper in (numbers(), moved(numbers())):
        assert bound(hyper).value < exact(hyper).value


@every
def test_sparse_bound_at_all_rows_is_the_evidence(table, case):
    data, hyper = data_of(table, case), moved(numbers())
    found = SparseEvidence(data, data.X)(hyper)
    expected = ExactEvidence(data, Cholesky())(hyper)
    np.testing.assert_allclose(found.value, expected.value, rtol=RTOL)
    np.testing.assert_allclose(hyper.flatten(found), hyper.flatten(expected), rtol=1e-6)


def test_sparse_bound_rises_with_inducing_rows(table):
    data = observed(table)
    values = [SparseEvidence(data, data.X[:k])(numbers()).value for k in (2, 4, 8, 16)]
    assert (np.diff(values) > 0).all()


@every
def test_sparse_gradient_equals_finite_differences(table, case):
    data, hyper = data_of(table, case), moved(numbers())
    bound = SparseEvidence(data, data.X[:5])
    expected = differences(lambda here: bound(here, gradient=False), hyper)
    np.testing.assert_allclose(hyper.flatten(bound(hyper)), expected, rtol=1e-6, atol=1e-6)


def test_sparse_search_finds_the_signal():
    # From much amplitude and little noise the trace term throws a search into the corner of no
    # signal at all, where the evidence is that of white noise, -284 nats.
    X, y = _regression_dataset()  # (200, 10), one target that half the rows explain
    y = (y - y.mean()) / y.std()
    model = NTKGaussianProcessRegressor(rank=50, random_state=0).fit(X, y)
    assert model.log_marginal_likelihood_value_ > -240
    assert model.score(X, y) > 0.7


@pytest.mark.parametrize(
    "options", [{"rank": 5}, {"evidence": "stochastic", "max_epochs": 2}], ids=str
)
def test_bounds_take_fixed_sklearn_kernels_only(table, options):
    fixed = NTKGaussianProcessRegressor(RBF(1.0, "fixed"), random_state=0, **options)
    assert fixed.fit(table.X, table.y).hyperparameter_names_ == ["amplitude", "noise_variance"]
    with pytest.raises(
        NotImplementedError, match=r"RBF.* without gradients of cross Gram matrices"
    ):
        NTKGaussianProcessRegressor(RBF(), **options).fit(table.X, table.y)
