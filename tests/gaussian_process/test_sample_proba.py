"""Joint draws of class probabilities: their moments, what rows share, copies, generators."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from sknk import config_context
from sknk.kernels import NTK
from tests.cases import rows
from tests.gaussian_process.classifiers import (
    AMPLITUDE,
    KERNEL,
    NEW,
    TWO,
    WEIGHTS,
    N,
    X,
    Y,
    every,
    known,
)
from tests.reference import classification as oracle
from tests.reference import gaussian_process as gp
from tests.reference import laplace

EPS = 0.03
LABELS = np.unique(Y, return_inverse=True)[1]
K, CROSS, HERE = AMPLITUDE * KERNEL(X), AMPLITUDE * KERNEL(X, NEW), AMPLITUDE * KERNEL(NEW)
M, C, DRAWS = len(NEW), 3, 20_000
# Weights that leave Student's t with less than two degrees of freedom.
HEAVY = {"prior": "student", "prior_df": 0.7}
LIGHT = np.full(N, 0.05)


# --- naive joint laws: means (m, C), covariances (C, m, C, m) ------------------------------------


def apart(covariances):
    full = np.zeros((C, M, C, M))
    for c, S in enumerate(covariances):
        full[c, :, c] = S
    return full


def dirichlet_law(w):
    targets, noise = oracle.targets(LABELS, C, w, EPS)
    laws = [gp.posterior(K, noise[:, c], targets[:, [c]], CROSS, HERE) for c in range(C)]
    return np.hstack([law[0] for law in laws]), apart(law[1] for law in laws)


def laplace_law(w):
    a = laplace.mode(K, np.eye(C)[LABELS], w)
    W, prior = laplace.negative_hessian(K @ a, w), laplace.joint_gram(K, C)
    R = np.linalg.solve(np.eye(N * C) + W @ prior, W)  # (W^-1 + K)^-1
    k = laplace.joint_gram(CROSS, C)
    return CROSS.T @ a, (laplace.joint_gram(HERE, C) - k.T @ R @ k).reshape(C, M, C, M)


def variational_law(model):
    fit, a = model._model, model.amplitude_
    L = np.linalg.cholesky(a * model.kernel_(fit.Z) + fit.jitter * np.eye(len(fit.Z)))
    phi = np.linalg.solve(L, a * model.kernel_(fit.Z, NEW))
    S = [a * model.kernel_(NEW) - phi.T @ phi + phi.T @ R @ R.T @ phi for R in fit.root]
    return phi.T @ fit.mean, apart(S)


def law_of(way, model, w):
    if way == "variational":
        return variational_law(model)
    mean, cov = (laplace_law if way == "laplace" else dirichlet_law)(w)
    return mean, cov * np.sqrt(np.multiply.outer(model._gain, model._gain))[:, None, :, None]


def joint(model, new):
    """Mean and covariance as the model has them."""
    found = model._model.joint(torch.from_numpy(new))
    S, V = (torch.stack(part).numpy() for part in zip(*found.parts, strict=True))
    assert V.shape == (C, found.n_shared, M)
    cov = np.einsum("aqi,bqj->aibj", V, V)
    cov[range(C), :, range(C)] += S
    return found.mean.numpy(), cov


@pytest.fixture(params=["ones", "weights"])
def w(request):
    return np.ones(N) if request.param == "ones" else WEIGHTS


@pytest.mark.parametrize("way", ["dirichlet", "laplace", "variational"])
def test_joint_latent_equals_naive_law(way, w):
    model = known(way).fit(X, Y, w)
    for found, wanted in zip(joint(model, NEW), law_of(way, model, w), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-8)


@every
def test_joint_latent_has_the_marginals_of_latent(way):
    model = known(way).fit(X, Y)
    mean, std = model.predict_latent(NEW, return_std=True)
    found, cov = joint(model, NEW)
    variance = np.diagonal(cov.reshape(C * M, C * M)).reshape(C, M).T * model._gain
    np.testing.assert_allclose(found, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(variance), std, rtol=1e-9)


# --- moments of draws ----------------------------------------------------------------------------


@every
@pytest.mark.parametrize("labels", [Y, TWO], ids=["three", "two"])
def test_sample_proba_averages_to_predict_proba(way, labels):
    model = known(way).fit(X, labels)
    p = model.sample_proba(NEW, DRAWS)
    error = p.std(axis=2) / np.sqrt(DRAWS)
    # Four standard errors, and what 4096 points of predict_proba err by.
    assert (np.abs(p.mean(axis=2) - model.predict_proba(NEW)) < 4 * error + 2e-4).all()


def test_sample_proba_averages_to_predict_proba_when_tails_are_heavy():
    model = known(**HEAVY).fit(X, Y, LIGHT)
    assert model._df < 2
    p = model.sample_proba(NEW, DRAWS)
    error = p.std(axis=2) / np.sqrt(DRAWS)
    assert (np.abs(p.mean(axis=2) - model.predict_proba(NEW)) < 4 * error + 1e-3).all()


@pytest.mark.parametrize("way", ["dirichlet", "laplace", "variational"])
def test_sample_proba_log_odds_covary_across_rows_as_the_naive_law(way, w):
    model = known(way).fit(X, Y, w)
    mean, cov = law_of(way, model, w)
    logs = np.log(model.sample_proba(NEW, DRAWS))
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        odds = logs[:, a] - logs[:, b]  # f_a - f_b
        S = cov[a, :, a] + cov[b, :, b] - cov[a, :, b] - cov[b, :, a]
        d = np.diag(S)
        assert (np.abs(odds.mean(axis=1) - mean[:, a] + mean[:, b]) < 4 * (d / DRAWS) ** 0.5).all()
        error = np.sqrt((np.outer(d, d) + S**2) / DRAWS)  # of a Gaussian covariance
        assert (np.abs(np.cov(odds) - S) < 4.5 * error).all()
        # Rows have to share enough for that to say something.
        assert (np.abs(S - np.diag(d)) > 10 * error).sum() > M


def test_sample_proba_of_student_has_one_scale_for_rows_and_classes():
    model = known(**HEAVY).fit(X, Y, LIGHT)
    mean, cov = law_of("student", model, LIGHT)
    logs = np.log(np.maximum(model.sample_proba(NEW, DRAWS), 1e-300))
    # Any combination of entries of a multivariate t is a t; one of entries with other scales isn't.
    combination = np.zeros((C, M))
    combination[0, 0], combination[1, 0], combination[0, 5], combination[2, 5] = 1, -1, -1, 1
    drawn = np.einsum("ca,acs->s", combination, logs) - (combination * mean.T).sum()
    scale = np.sqrt(np.einsum("ai,aibj,bj->", combination, cov, combination))
    central = np.abs(drawn) < 20 * scale  # elsewhere probabilities underflow
    law = stats.t(model._df)
    inside = law.cdf([-20, 20])
    uniform = (law.cdf(drawn[central] / scale) - inside[0]) / (inside[1] - inside[0])
    assert stats.kstest(uniform, "uniform").pvalue > 0.01


@every
def test_sample_proba_of_a_row_has_the_same_law_alone_and_among_others(way):
    model = known(way).fit(X, Y)
    alone = model.sample_proba(NEW[[4]], 4000, random_state=1)[0]
    among = model.sample_proba(NEW, 4000, random_state=2)[4]
    for one, other in zip(alone, among, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 0.01


@every
def test_sample_proba_of_fitted_rows_is_surer_than_far_away(way):
    model = known(way).fit(X, Y)
    spread = model.sample_proba(np.vstack([X, 30 * X]), 200).std(axis=2).mean(axis=1)
    assert spread[:N].mean() < spread[N:].mean()


# --- copies and singular covariances -------------------------------------------------------------


@every
def test_sample_proba_of_copies_is_the_same(way):
    model = known(way, amplitude=1e3).fit(X, Y)
    p = model.sample_proba(np.vstack([NEW, X[:4], NEW[::-1]]), 50)
    np.testing.assert_array_equal(p[:M], p[: M + 3 : -1])


@every
def test_sample_proba_of_near_copies_is_nearly_the_same(way):
    model = known(way).fit(X, Y)
    near = NEW * (1 + 1e-12)
    assert (near != NEW).any(axis=1).all()
    p = model.sample_proba(np.vstack([NEW, near]), 50)
    # Near copies differ by the root of their distance where activations have kinks.
    np.testing.assert_allclose(p[:M], p[M:], atol=1e-5)


@every
def test_sample_proba_of_a_kernel_of_low_rank_is_linear_in_the_rows(way):
    # Warnings are errors: no jitter is added, whatever the rank.
    model = known(way, NTK(depth=0, bias_var=0.1), rank=3).fit(X, Y)
    a, b = rows(40, seed=11), rows(40, seed=12)
    logs = np.log(model.sample_proba(np.vstack([a, b, 0.3 * a + 0.7 * b]), 20))
    odds = logs[:, 1:] - logs[:, :1]
    mixed = 0.3 * odds[:40] + 0.7 * odds[40:80]
    np.testing.assert_allclose(odds[80:], mixed, atol=1e-5)


@every
def test_sample_proba_follows_the_order_of_rows(way):
    model = known(way).fit(X, Y)
    order = np.random.default_rng(3).permutation(M)
    p = model.sample_proba(NEW, 5)
    np.testing.assert_array_equal(model.sample_proba(NEW[order], 5), p[order])


# --- shapes, generators, places ------------------------------------------------------------------


@every
@pytest.mark.parametrize(("labels", "n_classes"), [(Y, 3), (TWO, 2)], ids=["three", "two"])
def test_sample_proba_has_probabilities_of_every_draw(way, labels, n_classes):
    p = known(way).fit(X, labels).sample_proba(NEW, n_samples=7)
    assert p.shape == (M, n_classes, 7)
    assert p.dtype == np.float64
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-14)
    assert known(way).fit(X, labels).sample_proba(NEW[:1]).shape == (1, n_classes, 1)


@every
def test_sample_proba_is_repeated_by_random_state(way):
    model = known(way).fit(X, Y)
    p = model.sample_proba(NEW, 3, random_state=5)
    np.testing.assert_array_equal(model.sample_proba(NEW, 3, random_state=5), p)
    np.testing.assert_array_equal(
        model.sample_proba(NEW, 3, random_state=np.random.RandomState(5)), p
    )
    np.testing.assert_array_equal(model.sample_proba(NEW, 3), model.sample_proba(NEW, 3))
    for other in (6, None):
        assert (model.sample_proba(NEW, 3, random_state=other) != p).all()


def test_sample_proba_moves_on_with_a_generator():
    model, rng = known().fit(X, Y), np.random.RandomState(5)
    one, other = (model.sample_proba(NEW, 3, random_state=rng) for _ in range(2))
    assert (one != other).all()


@every
@pytest.mark.parametrize("random_state", [None, 0])
def test_sample_proba_leaves_global_generators_alone(way, random_state):
    model = known(way).fit(X, Y)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    model.sample_proba(NEW, 3, random_state=random_state)
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, before[1], strict=True))


@every
def test_sample_proba_survives_pickling(way):
    model = known(way).fit(X, Y)
    other = pickle.loads(pickle.dumps(model))
    p = model.sample_proba(NEW, 3)
    np.testing.assert_allclose(other.sample_proba(NEW, 3), p, rtol=1e-8)
    np.testing.assert_array_equal(model.sample_proba(torch.from_numpy(NEW), 3), p)


@every
def test_sample_proba_in_float32_is_close_to_float64(way):
    model = known(way).fit(X, Y)
    with config_context(dtype="float32"):
        low = model.sample_proba(NEW, 200)
    assert low.dtype == np.float64
    # Rounding of 1e-7 times condition numbers of 1e3 and a few latent units.
    np.testing.assert_allclose(low, model.sample_proba(NEW, 200), atol=2e-3)


@pytest.mark.gpu
@every
def test_sample_proba_on_gpu_agrees_with_cpu(way, cuda):
    model = known(way).fit(X, Y)
    p = model.sample_proba(NEW, 20)
    model.device = str(cuda)
    np.testing.assert_allclose(model.sample_proba(NEW, 20), p, atol=1e-6)
