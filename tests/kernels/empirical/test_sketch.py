import numpy as np
import pytest
import torch

from sknk.kernels import EmpiricalNTK
from sknk.kernels._empirical import _sketch
from sknk.kernels._empirical._gradients import Dense, RowGradients
from sknk.kernels._empirical._sketch import Gaussian, Rademacher, Sparse
from tests.cases import rows
from tests.modules import mlp, seeded
from tests.reference import empirical

NET = seeded(lambda: mlp(3, 2))
X = rows(5)
SIGNED = {1.0, -1.0}


class OneParameter:
    """What a sketch needs to know of a network."""

    def __init__(self, *shape):
        self.leaves = {"w": torch.zeros(shape, dtype=torch.float64)}


def matrix(sketch, *shape):
    """S itself, (P, k): the features of unit gradients of one output."""
    size = int(np.prod(shape))
    lead = shape[0] if shape else 1
    units = Dense(torch.eye(size, dtype=torch.float64).reshape(1, size, lead, -1))
    return sketch.gradients(RowGradients((("w",),), (units,)), OneParameter(*shape)).numpy()


def test_rademacher_has_signs_everywhere():
    S = 37**0.5 * matrix(Rademacher(37, 0), 5, 6)
    assert S.shape == (30, 37)
    assert set(np.unique(S.round(12))) == SIGNED
    # 1110 fair signs: five standard deviations of their mean.
    assert abs(S.mean()) < 5.0 / 1110**0.5


def test_sparse_has_four_signs_for_every_parameter():
    S = 2.0 * matrix(Sparse(400, 0), 5, 6)
    np.testing.assert_allclose(np.abs(S).sum(1), 4.0, rtol=1e-12)  # 400 columns: no collision here
    np.testing.assert_allclose(np.square(S).sum(1), 4.0, rtol=1e-12)
    assert len(np.unique(np.nonzero(S)[1])) > 80


def test_gaussian_is_a_product_over_the_axes_of_a_weight():
    S = matrix(Gaussian(40, 0), 5, 6).reshape(5, 6, 40)
    for column in np.moveaxis(S, -1, 0):
        assert np.linalg.matrix_rank(column, tol=1e-10) == 1
    # 1200 products of two N(0, 1), whose square has variance 8: five standard deviations.
    assert abs(40.0 * np.square(S).mean() - 1.0) < 5.0 * (8.0 / 440) ** 0.5


@pytest.mark.parametrize("kind", [Rademacher, Sparse, Gaussian])
@pytest.mark.parametrize("shape", [(), (7,), (3, 2, 4)])
def test_sketch_takes_parameters_of_any_shape(kind, shape):
    S = matrix(kind(20, 0), *shape)
    assert S.shape == (int(np.prod(shape)), 20)
    assert np.isfinite(S).all()
    assert (np.abs(S).sum(1) > 0).all()


@pytest.mark.parametrize("kind", [Rademacher, Sparse, Gaussian])
def test_sketch_depends_on_its_seed_and_on_names_only(kind):
    S = matrix(kind(20, 0), 4, 3)
    np.testing.assert_array_equal(matrix(kind(20, 0), 4, 3), S)
    assert (matrix(kind(20, 1), 4, 3) != S).any()


def test_signs_of_a_parameter_do_not_depend_on_the_others(monkeypatch):
    alone = EmpiricalNTK(NET, params="2.weight", projection=8).features(X)
    rest = EmpiricalNTK(NET, params=["0.*", "2.bias", "4.*"], projection=8).features(X)
    np.testing.assert_allclose(
        EmpiricalNTK(NET, projection=8).features(X), alone + rest, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", [Rademacher, Sparse])
def test_blocks_of_parameters_have_signs_of_their_own(kind, monkeypatch):
    monkeypatch.setattr(_sketch, "_BLOCK", 8)
    S = matrix(kind(50, 0), 6, 4)  # three blocks of two rows
    for first, second in ((0, 8), (8, 16), (0, 16)):
        assert (S[first : first + 8] != S[second : second + 8]).any()


@pytest.mark.parametrize("sketch", ["rademacher", "sparse", "gaussian"])
@pytest.mark.parametrize("kind", ["trace", "pseudo"])
def test_features_are_unbiased(sketch, kind):
    J = empirical.jacobian(NET, X)[0]
    wanted = getattr(empirical, kind)(J)
    seeds = [
        EmpiricalNTK(NET, kind, projection=64, sketch=sketch, random_state=s)(X) for s in range(60)
    ]
    error = np.std(seeds, axis=0) / 60**0.5
    # 25 entries: none beyond four and a half standard errors.
    assert (np.abs(np.mean(seeds, axis=0) - wanted) < 4.5 * error).all()


def test_outputs_are_kept_apart():
    class Opposite(torch.nn.Module):
        """Two outputs whose gradients cancel: their sum has none, their trace has."""

        def __init__(self):
            super().__init__()
            self.linear = seeded(lambda: torch.nn.Linear(3, 1))

        def forward(self, x):
            return torch.cat([self.linear(x), -self.linear(x)], 1)

    kernel = EmpiricalNTK(Opposite(), projection=512)
    K, Z = EmpiricalNTK(Opposite())(X), kernel.features(X)
    # One standard error of 512 signs is 1/22.
    assert np.abs(Z @ Z.T - K).max() < 5.0 / 22.0 * np.diag(K).max()
