import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sknk import _config
from sknk.exceptions import MemoryBudgetError, NotPSDError
from sknk.solvers import _laplace, softmax_mode
from tests.reference import laplace, linalg

N, C, M = 14, 3, 5
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((N + M, 5))
JOINT = ROWS @ ROWS.T + 0.1 * np.eye(N + M)
K, K_CROSS, K_NEW = JOINT[:N, :N], JOINT[:N, N:], JOINT[N:, N:]
Y = np.eye(C)[(ROWS[:N, :C] + RNG.standard_normal((N, C))).argmax(axis=1)]
WEIGHTS = {"ones": np.ones(N), "weights": RNG.uniform(0.2, 4.0, N)}


@pytest.fixture(params=WEIGHTS)
def w(request):
    return WEIGHTS[request.param]


def tensor(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype)


def find(K, Y, w=None, **options):
    return softmax_mode(tensor(K), tensor(Y), None if w is None else tensor(w), **options)


def residual(found, Y, w):
    """Return the largest entry of w (Y - pi) - a."""
    pi = laplace.softmax(found.f.numpy())
    return np.abs(w[:, None] * (Y - pi) - found.dual.numpy()).max()


def same(found, expected, rtol=1e-8):
    """Compare modes; `tol` of 1e-10 on the gradient leaves 1e-9 in f."""
    np.testing.assert_allclose(found.f, expected.f, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, rtol=rtol)


# --- mode --------------------------------------------------------------------------------------


def test_mode_is_a_stationary_point(w):
    found = find(K, Y, w)
    assert residual(found, Y, w) < 1e-9
    np.testing.assert_allclose(found.f, K @ found.dual.numpy(), rtol=1e-12, atol=1e-12)


def test_mode_matches_dense_newton(w):
    np.testing.assert_allclose(find(K, Y, w).dual, laplace.mode(K, Y, w), rtol=1e-8, atol=1e-9)


def test_mode_weights_default_to_ones():
    same(find(K, Y), find(K, Y, np.ones(N)), rtol=1e-14)


def test_mode_follows_order_of_classes(w):
    order = [2, 0, 1]
    found, turned = find(K, Y, w), find(K, Y[:, order], w)
    np.testing.assert_allclose(turned.f, found.f[:, order], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(turned.log_evidence, found.log_evidence, rtol=1e-10)


@pytest.mark.parametrize("amplitude", [1e-8, 1e-2, 1e3, 1e6])
def test_mode_is_found_when_amplitude_is_extreme(amplitude):
    found = find(amplitude * K, Y)
    assert residual(found, Y, np.ones(N)) < 1e-9


@pytest.mark.parametrize("amplitude", [1.0, 1e6])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_mode_is_found_when_gram_is_singular(amplitude, rank):
    A = np.random.default_rng(3).standard_normal((N, rank))
    assert residual(find(amplitude * A @ A.T, Y), Y, np.ones(N)) < 1e-9


def test_mode_is_found_when_one_class_is_certain():
    alike = np.tile([[1.0, 0.0, 0.0]], (N, 1))
    found = find(1e4 * np.ones((N, N)) + K, alike)
    assert residual(found, alike, np.ones(N)) < 1e-9
    assert torch.isfinite(found.gram_gradient()).all()


def test_mode_is_found_when_weights_differ_by_many_orders():
    w = np.logspace(-4, 4, N)
    found = find(K, Y, w)
    assert residual(found, Y, w) < 1e-9 * w.max()
    np.testing.assert_allclose(found.log_evidence, laplace.log_evidence(K, Y, w), rtol=1e-9)


# --- start -------------------------------------------------------------------------------------


def test_start_gives_same_mode(w):
    near, cold = find(1.3 * K, Y, w), find(K, Y, w)
    same(find(K, Y, w, start=near), cold)
    same(find(K, Y, w, start=near.dual), cold)


def test_start_of_a_distant_gram_gives_same_mode(w):
    distant = find(1e3 * linalg.random_gram(N, seed=9), Y, w)
    same(find(K, Y, w, start=distant), find(K, Y, w))


def test_start_far_from_the_mode_is_left_for_zero(w):
    same(find(K, Y, w, start=torch.full((N, C), -1e6)), find(K, Y, w))


def test_start_of_another_dtype_gives_same_mode():
    single = softmax_mode(tensor(K, torch.float32), tensor(Y, torch.float32))
    same(find(K, Y, start=single), find(K, Y))


def test_start_with_factors_needs_only_those_of_the_mode(monkeypatch):
    near, calls = find(1.02 * K, Y), []
    factorize = _laplace._factorize
    monkeypatch.setattr(_laplace, "_factorize", lambda *a: calls.append(a) or factorize(*a))
    find(K, Y, start=near)
    assert len(calls) == 1


# --- evidence ----------------------------------------------------------------------------------


def test_evidence_determinant_matches_dense(w):
    found = find(K, Y, w)
    psi = laplace.log_posterior(K, Y, w, found.dual.numpy())
    expected = laplace.half_logdet(K, found.f.numpy(), w)
    np.testing.assert_allclose(psi - found.log_evidence, expected, rtol=1e-10)


def test_evidence_determinant_matches_dense_when_gram_is_singular(w):
    singular = 50.0 * linalg.random_gram(N, rank=2)
    found = find(singular, Y, w)
    psi = laplace.log_posterior(singular, Y, w, found.dual.numpy())
    expected = laplace.half_logdet(singular, found.f.numpy(), w)
    np.testing.assert_allclose(psi - found.log_evidence, expected, rtol=1e-10)


def test_evidence_matches_dense_newton(w):
    found = find(K, Y, w)
    np.testing.assert_allclose(found.log_evidence, laplace.log_evidence(K, Y, w), rtol=1e-10)


@pytest.mark.parametrize("labels", [[0, 1], [1, 1]])
@pytest.mark.parametrize("correlation", [-0.3, 0.8])
def test_evidence_is_near_quadrature(labels, correlation):
    small = np.array([[1.5, correlation], [correlation, 2.0]])
    Y = np.eye(2)[labels]
    exact = laplace.two_class_evidence(small, Y)
    assert abs(find(small, Y).log_evidence - exact) < 0.2


def test_evidence_of_integer_weights_equals_repeated_rows():
    # With P the 0-1 matrix that repeats rows, det(I + P K P' W) = det(I + K P' W P), and P' W P
    # is the W of the weights: nothing is left over.
    counts = np.arange(N) % 3 + 1
    rows = np.repeat(np.arange(N), counts)
    weighted, repeated = find(K, Y, counts), find(K[np.ix_(rows, rows)], Y[rows])
    np.testing.assert_allclose(repeated.log_evidence, weighted.log_evidence, rtol=1e-10)
    np.testing.assert_allclose(repeated.f, weighted.f[rows], rtol=1e-8, atol=1e-9)


def test_evidence_is_uniform_when_gram_is_zero():
    np.testing.assert_allclose(find(0 * K, Y).log_evidence, -N * np.log(C), rtol=1e-12)


# --- gradient ----------------------------------------------------------------------------------


def symmetric(seed):
    S = np.random.default_rng(seed).standard_normal((N, N))
    return S + S.T


def differences(K, Y, w, S, h=2e-4):
    """Return the derivative of the dense log evidence along S, to h^4."""
    values = [laplace.log_evidence(K + t * h * S, Y, w) for t in (-2, -1, 1, 2)]
    return np.dot(values, [1, -8, 8, -1]) / (12 * h)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_matches_finite_differences(w, seed):
    S = symmetric(seed)
    actual = np.sum(find(K, Y, w).gram_gradient().numpy() * S)
    # Rounding of the evidence, 1e-14, over h.
    np.testing.assert_allclose(actual, differences(K, Y, w, S), rtol=1e-7, atol=1e-8)


def one_newton_step(K, f, Y, w):
    """Return the log evidence at the mode that one Newton step from `f` gives, differentiable."""

    def W(f):
        pi = f.softmax(dim=1)
        blocks = torch.diag_embed(pi) - pi[:, :, None] * pi[:, None, :]
        return torch.einsum("iab,ij->aibj", w[:, None, None] * blocks, torch.eye(N)).reshape(
            N * C, N * C
        )

    joint, eye = torch.block_diag(*[K] * C), torch.eye(N * C, dtype=K.dtype)
    b = W(f) @ f.T.flatten() + (w[:, None] * (Y - f.softmax(dim=1))).T.flatten()
    a = torch.linalg.solve(eye + W(f) @ joint, b).view(C, N).T
    f = K @ a
    likelihood = w @ ((Y * f).sum(dim=1) - f.logsumexp(dim=1))
    return likelihood - 0.5 * (a * f).sum() - 0.5 * torch.logdet(eye + W(f) @ joint)


def test_gradient_matches_autograd_through_one_newton_step(w):
    found, leaf = find(K, Y, w, tol=1e-13), tensor(K).requires_grad_()
    value = one_newton_step(leaf, found.f, tensor(Y), tensor(w))
    expected = torch.autograd.grad(value, leaf)[0]
    expected = (expected + expected.mT) / 2
    np.testing.assert_allclose(found.log_evidence, value.item(), rtol=1e-12)
    np.testing.assert_allclose(found.gram_gradient(), expected, rtol=1e-8, atol=1e-10)


def test_gradient_is_symmetric(w):
    G = find(K, Y, w).gram_gradient()
    assert torch.equal(G, G.mT)


def test_gradient_of_amplitude_vanishes_at_its_best_value():
    log_amplitudes = np.linspace(-3, 5, 33)
    values = [find(np.exp(t) * K, Y).log_evidence for t in log_amplitudes]
    best = int(np.argmax(values))
    slopes = []
    for t in log_amplitudes[[best - 1, best + 1]]:
        scaled = np.exp(t) * K
        slopes.append(np.sum(find(scaled, Y).gram_gradient().numpy() * scaled))
    assert slopes[0] > 0 > slopes[1]


# --- prediction --------------------------------------------------------------------------------


def test_predict_matches_dense(w):
    mean, cov = find(K, Y, w).predict(tensor(K_CROSS), tensor(np.diag(K_NEW)))
    expected = laplace.predict(K, Y, w, K_CROSS, np.diag(K_NEW))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(cov, expected[1], rtol=1e-8, atol=1e-9)


def test_predict_of_integer_weights_equals_repeated_rows():
    counts = np.arange(N) % 3 + 1
    rows = np.repeat(np.arange(N), counts)
    diag = tensor(np.diag(K_NEW))
    actual = find(K, Y, counts).predict(tensor(K_CROSS), diag)
    expected = find(K[np.ix_(rows, rows)], Y[rows]).predict(tensor(K_CROSS[rows]), diag)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_predict_of_training_rows_returns_the_mode(w):
    found = find(K, Y, w)
    mean, cov = found.predict(tensor(K), tensor(np.diag(K)))
    np.testing.assert_allclose(mean, found.f, rtol=1e-11, atol=1e-11)
    assert (torch.linalg.eigvalsh(cov) > 0).all()


def test_predict_does_not_depend_on_its_blocks(w):
    found, diag = find(K, Y, w), tensor(np.diag(K_NEW))
    many = found.predict(tensor(np.tile(K_CROSS, 210)), diag.repeat(210))  # 1050 rows, 3 blocks
    few = found.predict(tensor(K_CROSS), diag)
    for a, b in zip(many, few, strict=True):
        np.testing.assert_allclose(a.unflatten(0, (210, M))[[0, -1]], b.expand(2, *b.shape))


# --- dtypes, devices, errors -------------------------------------------------------------------


def test_float32_agrees_with_float64(w):
    single = [tensor(x, torch.float32) for x in (K, Y, w)]
    found, expected = softmax_mode(*single), find(K, Y, w)
    np.testing.assert_allclose(found.f, expected.f, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, rtol=1e-5)
    G = expected.gram_gradient()
    np.testing.assert_allclose(found.gram_gradient(), G, atol=1e-4 * float(G.abs().max()))


def test_mode_warns_when_iterations_run_out():
    with pytest.warns(ConvergenceWarning, match=r"after 2 Newton .* Increase `max_iter`"):
        find(K, Y, max_iter=2)


def test_mode_refuses_indefinite_gram():
    with pytest.raises(NotPSDError, match=r"D\^1/2 K D\^1/2 is not positive definite"):
        find(K - 100 * np.eye(N), Y)


def test_mode_advises_float64_when_float32_does_not_suffice():
    huge = tensor(1e9 * linalg.random_gram(N, rank=2), torch.float32)
    with pytest.raises(NotPSDError, match=r"Reduce its amplitude or pass `dtype='float64'`"):
        softmax_mode(huge, tensor(Y, torch.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Y": Y[:, :1]}, "two classes or more"),
        ({"Y": Y[:-1]}, r"`Y` \(13, 3\)"),
        ({"Y": 2 * Y}, "Row 0 of `Y` sums to 2"),
        ({"w": np.where(np.arange(N) == 4, 0.0, 1.0)}, "`weights` is 0 at row 4"),
        ({"w": -np.ones(N)}, "`sample_weight` is -1"),
        ({"start": torch.zeros(N, 2)}, r"`start` has shape \(14, 2\)"),
        ({"K": np.where(np.eye(N) > 0, np.nan, K)}, "NaN or infinite"),
    ],
)
def test_mode_refuses_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        find(**{"K": K, "Y": Y, **change})


def test_mode_checks_memory():
    with (
        _config.config_context(memory_budget=1000),
        pytest.raises(MemoryBudgetError, match="Laplace approximation of 14 rows and 3 classes"),
    ):
        find(K, Y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_mode_agrees_on_gpu(w):
    found = softmax_mode(tensor(K).cuda(), tensor(Y), tensor(w))
    expected = find(K, Y, w)
    np.testing.assert_allclose(found.f.cpu(), expected.f, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        found.gram_gradient().cpu(), expected.gram_gradient(), rtol=1e-8, atol=1e-9
    )
