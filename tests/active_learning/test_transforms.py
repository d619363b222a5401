import numpy as np
import pytest
import torch

from sknk.active_learning import ACSFeatures, Posterior, Rescale, Sketch, select_batch
from sknk.active_learning._space import Space
from sknk.kernels import NTK
from sknk.solvers import FeatureGram, KernelGram
from tests.cases import rows

POOL, TRAIN = rows(30, d=5), rows(9, d=5, seed=1)
NOISE = 0.3


def space(kernel=None):
    stacked = torch.tensor(np.vstack([POOL, TRAIN]))
    gram = FeatureGram(stacked) if kernel is None else KernelGram(kernel, stacked)
    return Space(gram, 30, NOISE)


def applied(transform, kernel=None, seed=0):
    return transform.apply(space(kernel), torch.Generator().manual_seed(seed))


def posterior(K, given, noise):
    """Covariance of all rows given some, in dense NumPy."""
    return K - K[:, given] @ np.linalg.solve(
        K[np.ix_(given, given)] + noise * np.eye(len(given)), K[given]
    )


KERNELS = pytest.mark.parametrize("kernel", [None, NTK(depth=1)], ids=["features", "ntk"])


@KERNELS
def test_rescale_makes_the_mean_of_training_rows_one(kernel):
    K, scaled = space(kernel).gram.dense(), applied(Rescale(), kernel).gram.dense()
    assert scaled[30:, 30:].diagonal().mean() == pytest.approx(1.0)
    np.testing.assert_allclose(scaled / K, float(scaled[0, 0] / K[0, 0]), rtol=1e-9)
    np.testing.assert_allclose(applied(Rescale(2.0), kernel).gram.dense(), 4.0 * K, rtol=1e-12)


def test_rescale_without_training_rows_is_by_the_pool():
    alone = Space(FeatureGram(torch.tensor(POOL)), 30, NOISE)
    scaled = Rescale().apply(alone, torch.Generator())
    assert float(scaled.gram.diag().mean()) == pytest.approx(1.0)


@KERNELS
def test_posterior_given_the_training_rows_equals_naive_one(kernel):
    K, found = space(kernel).gram.dense().numpy(), applied(Posterior(), kernel)
    assert found.gram.shape == (30, 30)
    assert not len(found.train)
    expected = posterior(K, np.arange(30, 39), NOISE)[:30, :30]
    np.testing.assert_allclose(found.gram.dense(), expected, atol=1e-10)


@KERNELS
def test_posterior_given_the_pool_equals_naive_one(kernel):
    K, found = space(kernel).gram.dense().numpy(), applied(Posterior("pool", 0.1), kernel)
    assert len(found.train) == 9
    np.testing.assert_allclose(found.gram.dense(), posterior(K, np.arange(30), 0.1), atol=1e-10)


def test_posterior_before_a_selector_is_its_own_mode():
    options = {"method": "lcmd", "batch_size": 6, "X_train": TRAIN, "noise_variance": NOISE}
    found = select_batch(POOL, transforms=[Posterior()], **options)
    np.testing.assert_array_equal(found, select_batch(POOL, mode="P", **options))


def test_sketch_keeps_the_mean_of_inner_products():
    K = space().gram.dense()
    drawn = torch.stack([applied(Sketch(16), seed=s).gram.dense() for s in range(200)])
    error = drawn.std(0) / 200**0.5
    # 1521 entries within five standard errors: one failure in a thousand draws.
    assert ((drawn.mean(0) - K).abs() < 5.0 * error).all()
    assert applied(Sketch(16)).gram.Phi.shape == (39, 16)


def test_acs_features_have_the_mean_of_what_they_stand_for():
    # Over draws of theta, (theta' phi)^2 has mean v: each feature has mean log(1 + v/s2)/2 - v/s2.
    found = applied(ACSFeatures(200_000, noise_variance=2.0)).gram.Phi.numpy() * 200_000**0.5
    A = TRAIN.T @ TRAIN + 2.0 * np.eye(5)
    v = np.einsum("ij,jk,ik->i", POOL, np.linalg.inv(A), POOL)
    expected = 0.5 * np.log1p(v / 2.0) - v / 2.0
    # A chi-squared of variance 2 v^2 / (2 s2)^2: five standard errors.
    assert (np.abs(found.mean(1) - expected) < 5.0 * v / 2.0 / (2.0 * 200_000) ** 0.5).all()


def test_transforms_are_applied_from_left_to_right():
    given = Posterior(noise_variance=1.0)
    once = {"method": "maxdiag", "batch_size": 30, "X_train": TRAIN}
    first = select_batch(POOL, transforms=[Rescale(3.0), given], **once)
    second = select_batch(POOL, transforms=[given, Rescale(3.0)], **once)
    assert (first != second).any()


@pytest.mark.parametrize("transform", [Sketch(8), ACSFeatures(8)], ids=["sketch", "acs"])
def test_transforms_of_features_refuse_kernels(transform):
    with pytest.raises(TypeError, match=r"was given NTK\(depth=1\); expected finite features"):
        applied(transform, NTK(depth=1))


def test_rescale_after_a_kernel_posterior_is_refused():
    after = applied(Posterior(), NTK(depth=1))
    with pytest.raises(TypeError, match="was given KernelResidual; expected features or a kernel"):
        Rescale().apply(after, torch.Generator())


def test_posterior_given_something_else_is_refused():
    with pytest.raises(ValueError, match="`given` of Posterior is 'test'"):
        applied(Posterior("test"))
