import numpy as np
import pytest
import torch

from sknk.exceptions import NotPSDError, NumericalWarning
from sknk.solvers import InducingPosterior, inducing_bound, inducing_posterior
from sknk.solvers._sparse import clip_rounding
from tests.reference import linalg, sparse

N, K_POINTS, M, T = 20, 6, 5, 2
RNG = np.random.default_rng(0)
JOINT = linalg.random_gram(K_POINTS + N + M, rank=200)
Z, X, NEW = slice(0, K_POINTS), slice(K_POINTS, K_POINTS + N), slice(K_POINTS + N, None)
K_ZZ, K_ZX, K_ZNEW = JOINT[Z, Z], JOINT[Z, X], JOINT[Z, NEW]
K_XX, K_NEW = JOINT[X, X], JOINT[NEW, NEW]
Y = RNG.normal(0.3, 1.0, (N, T))
NOISES = {"constant": np.full(N, 0.3), "by row": RNG.uniform(0.1, 2.0, N)}
# Condition numbers are below 100.
RTOL = 1e-10


@pytest.fixture(params=NOISES)
def noise(request):
    return NOISES[request.param]


def tensors(*arrays, dtype=torch.float64):
    return [torch.tensor(x, dtype=dtype) for x in arrays]


def bound(*arrays):
    return inducing_bound(*tensors(*arrays))


def posterior(noise, rows=slice(None)):
    return inducing_posterior(*tensors(K_ZZ, K_ZX[:, rows], Y[rows], noise[rows]))


# --- bound -------------------------------------------------------------------------------------


def test_bound_matches_dense(noise):
    args = (K_ZZ, K_ZX, np.diag(K_XX), Y, noise)
    np.testing.assert_allclose(bound(*args)[0], sparse.bound(*args), rtol=RTOL)


def test_bound_is_below_evidence(noise):
    value = bound(K_ZZ, K_ZX, np.diag(K_XX), Y, noise)[0]
    assert value < sparse.log_normal(Y, K_XX + np.diag(noise))


def test_bound_grows_with_inducing_points(noise):
    values = [bound(K_XX[:k, :k], K_XX[:k], np.diag(K_XX), Y, noise)[0] for k in range(1, N + 1)]
    assert (np.diff(values) > 0).all()


def test_bound_equals_evidence_when_points_are_rows(noise):
    value = bound(K_XX, K_XX, np.diag(K_XX), Y, noise)[0]
    expected = sparse.log_normal(Y, K_XX + np.diag(noise))
    np.testing.assert_allclose(value, expected, rtol=RTOL)


def test_bound_of_outputs_is_the_sum_of_theirs(noise):
    args = (K_ZZ, K_ZX, np.diag(K_XX))
    apart = [bound(*args, Y[:, t], noise) for t in range(T)]
    value, cotangents = bound(*args, Y, noise)
    np.testing.assert_allclose(value, sum(a[0] for a in apart), rtol=RTOL)
    for together, *each in zip(cotangents, *(a[1] for a in apart), strict=True):
        np.testing.assert_allclose(together, sum(each), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("which", range(4), ids=["K_zz", "K_zx", "diag", "noise"])
def test_bound_cotangents_match_finite_differences(noise, which):
    args = [K_ZZ, K_ZX, np.diag(K_XX), Y, noise]
    position = which + (which == 3)  # Y has no cotangent
    S = np.random.default_rng(1).standard_normal(args[position].shape)
    S = S + S.T if which == 0 else S

    def along(t, h=1e-4):
        moved = list(args)
        moved[position] = moved[position] + t * h * S
        return sparse.bound(*moved) / h

    expected = (8 * (along(1) - along(-1)) - (along(2) - along(-2))) / 12
    actual = np.sum(bound(*args)[1][which].numpy() * S)
    # Rounding of the bound, 1e-14, over h.
    np.testing.assert_allclose(actual, expected, rtol=1e-7)


def test_bound_cotangent_of_inducing_gram_is_symmetric(noise):
    G = bound(K_ZZ, K_ZX, np.diag(K_XX), Y, noise)[1][0]
    np.testing.assert_allclose(G, G.mT, rtol=1e-12, atol=1e-12)


def test_bound_ignores_gradients_of_its_arguments(noise):
    args = [x.requires_grad_() for x in tensors(K_ZZ, K_ZX, np.diag(K_XX), Y, noise)]
    with torch.no_grad():
        value, cotangents = inducing_bound(*args)
    expected = bound(K_ZZ, K_ZX, np.diag(K_XX), Y, noise)
    assert value == expected[0]
    assert not any(x.requires_grad for x in cotangents)
    assert all(x.grad is None for x in args)


def test_bound_float32_agrees_with_float64(noise):
    args = (K_ZZ, K_ZX, np.diag(K_XX), Y, noise)
    value, cotangents = inducing_bound(*tensors(*args, dtype=torch.float32))
    expected = bound(*args)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    for actual, wanted in zip(cotangents, expected[1], strict=True):
        assert actual.dtype is torch.float32
        np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-3)


# --- posterior ---------------------------------------------------------------------------------


def test_posterior_of_inducing_values_matches_dense(noise):
    found = posterior(noise)
    mean, cov = sparse.posterior(K_ZZ, K_ZX, Y, noise)
    np.testing.assert_allclose(found.L @ found.mean, mean, rtol=RTOL, atol=RTOL)
    root = found.L @ found.root
    np.testing.assert_allclose(root @ root.mT, cov, rtol=RTOL, atol=RTOL)


def test_predict_matches_dense(noise):
    mean, variance = posterior(noise).predict(*tensors(K_ZNEW, np.diag(K_NEW)))
    expected = sparse.predict(K_ZZ, K_ZX, Y, noise, K_ZNEW, K_NEW)
    np.testing.assert_allclose(mean, expected[0], rtol=RTOL, atol=RTOL)
    wanted = np.tile(np.diag(expected[1])[:, None], T)
    np.testing.assert_allclose(variance, wanted, rtol=RTOL, atol=RTOL)


def test_covariance_matches_dense(noise):
    found = posterior(noise).covariance(*tensors(K_ZNEW, K_NEW))
    expected = sparse.predict(K_ZZ, K_ZX, Y, noise, K_ZNEW, K_NEW)[1]
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)


def test_posterior_is_exact_when_points_are_rows(noise):
    found = inducing_posterior(*tensors(K_XX, K_XX, Y, noise))
    cross = JOINT[X, NEW]
    mean, cov = sparse.exact_predict(K_XX, Y, noise, cross, K_NEW)
    np.testing.assert_allclose(found.predict(*tensors(cross, np.diag(K_NEW)))[0], mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance(*tensors(cross, K_NEW)), cov, rtol=1e-9, atol=1e-9)


def test_posterior_roots_of_each_output_are_used_apart(noise):
    shared = posterior(noise)
    roots = torch.stack([shared.root, 2 * shared.root])
    found = InducingPosterior(shared.L, shared.mean, roots)
    args = tensors(K_ZNEW, K_NEW)
    cov = found.covariance(*args)
    variance = found.predict(args[0], args[1].diagonal())[1]
    assert cov.shape == (T, M, M)
    np.testing.assert_allclose(cov[0], shared.covariance(*args), rtol=1e-12)
    np.testing.assert_allclose(variance, cov.diagonal(dim1=1, dim2=2).mT, rtol=1e-12)
    assert (variance[:, 1] > variance[:, 0]).all()


@pytest.mark.parametrize("split", [1, 13])
def test_append_equals_posterior_of_all_rows(noise, split):
    first, rest = posterior(noise, slice(split)), slice(split, None)
    found = first.append(*tensors(K_ZX[:, rest], Y[rest], noise[rest]))
    expected = posterior(noise)
    for name in ("L", "mean", "root", "precision", "moment"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=RTOL, atol=RTOL
        )
    np.testing.assert_allclose(first.mean, posterior(noise, slice(split)).mean)


def test_append_needs_statistics(noise):
    found = posterior(noise)
    bare = InducingPosterior(found.L, found.mean, found.root)
    with pytest.raises(ValueError, match=r"`precision` and `moment` are None"):
        bare.append(*tensors(K_ZX, Y, noise))


def test_posterior_of_many_rows_does_not_depend_on_their_blocks():
    times = 250  # 5000 rows, in two blocks
    args = (np.tile(K_ZX, times), np.tile(Y, (times, 1)), np.tile(NOISES["by row"], times))
    found = inducing_posterior(*tensors(K_ZZ, *args))
    expected = inducing_posterior(*tensors(K_ZZ, K_ZX, Y, NOISES["by row"] / times))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9, atol=1e-9)


def test_posterior_keeps_shape_of_a_single_output(noise):
    found = inducing_posterior(*tensors(K_ZZ, K_ZX, Y[:, 0], noise))
    mean, variance = found.predict(*tensors(K_ZNEW, np.diag(K_NEW)))
    assert mean.shape == variance.shape == (M, 1)


# --- jitter, clipping, errors ------------------------------------------------------------------


def test_posterior_warns_of_jitter_when_points_coincide(noise):
    twice = np.r_[np.arange(K_POINTS), 0]
    with pytest.warns(NumericalWarning, match=r"added jitter .* 1e-10 of the mean"):
        found = inducing_posterior(*tensors(K_ZZ[np.ix_(twice, twice)], K_ZX[twice], Y, noise))
    np.testing.assert_allclose(found.jitter, 1e-10 * np.diag(K_ZZ)[twice].mean())
    mean, _ = found.predict(*tensors(K_ZNEW[twice], np.diag(K_NEW)))
    # The jitter moves the answer by its size over the smallest eigenvalue.
    expected = sparse.predict(K_ZZ, K_ZX, Y, noise, K_ZNEW, K_NEW)[0]
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)


def test_bound_treats_jitter_as_constant():
    singular = linalg.random_gram(8, rank=3)
    args = [singular, singular, np.diag(singular), Y[:8], np.full(8, 0.5)]
    with pytest.warns(NumericalWarning, match="added jitter"):
        value, cotangents = bound(*args)
    jitter = 1e-10 * np.diag(singular).mean()
    with_jitter = bound(singular + jitter * np.eye(8), *args[1:])
    np.testing.assert_allclose(value, with_jitter[0], rtol=1e-12)
    for actual, expected in zip(cotangents, with_jitter[1], strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_posterior_refuses_indefinite_inducing_gram():
    with pytest.raises(NotPSDError, match="inducing points, jitter tried up to 1e-04"):
        inducing_posterior(*tensors(K_ZZ - 3 * np.eye(K_POINTS), K_ZX, Y, NOISES["constant"]))


def test_variances_are_clipped_only_by_rounding():
    found = clip_rounding(*tensors([-1e-9, -1e-7, 0.5], np.ones(3)))
    np.testing.assert_array_equal(found, [0.0, -1e-7, 0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": np.zeros(N)}, "`noise` is 0 at row 0"),
        ({"noise": np.ones(3)}, r"`noise` \(3,\)"),
        ({"Y": Y[:-1]}, r"`Y` has shape \(19, 2\)"),
        ({"K_zz": np.full_like(K_ZZ, np.nan)}, "NaN or infinite"),
    ],
)
def test_posterior_refuses_bad_input(change, message):
    args = {"K_zz": K_ZZ, "K_zx": K_ZX, "Y": Y, "noise": NOISES["constant"], **change}
    with pytest.raises(ValueError, match=message):
        inducing_posterior(*tensors(*args.values()))


def test_bound_refuses_diagonal_of_wrong_length(noise):
    with pytest.raises(ValueError, match=r"`diag` has shape \(3,\)"):
        bound(K_ZZ, K_ZX, np.ones(3), Y, noise)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_bound_and_posterior_agree_on_gpu(noise):
    args = tensors(K_ZZ, K_ZX, np.diag(K_XX), Y, noise)
    value = inducing_bound(*(x.cuda() for x in args))[0]
    np.testing.assert_allclose(value, inducing_bound(*args)[0], rtol=RTOL)
    del args[2]
    found = inducing_posterior(*(x.cuda() for x in args))
    np.testing.assert_allclose(found.mean.cpu(), inducing_posterior(*args).mean, rtol=1e-9)
