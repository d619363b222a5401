import numpy as np
import pytest

from sknk.preprocessing import SmoothClip


def column(*values, dtype=float):
    return np.array(values, dtype=dtype)[:, None]


@pytest.mark.parametrize("limit", [0.5, 5.0])
def test_clip_is_scaled_tanh(limit):
    X = np.linspace(-20, 20, 41)[:, None]
    found = SmoothClip(limit).fit_transform(X)
    np.testing.assert_array_equal(found, limit * np.tanh(X / limit))


def test_clip_default_limit_is_five():
    assert SmoothClip().fit_transform(column(1e6)).item() == 5.0


def test_clip_keeps_small_values():
    # tanh(u) = u - u^3 / 3 + ..., so the relative error is (x / c)^2 / 3.
    np.testing.assert_allclose(SmoothClip().fit_transform(column(0.01)), 0.01, rtol=2e-6)


def test_clip_inverse_undoes_it():
    X = np.random.default_rng(0).normal(0, 6, (50, 3))
    model = SmoothClip(5.0).fit(X)
    # d arctanh(u) = du / (1 - u^2), 1e3 at three limits.
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, rtol=1e-11)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 19.0), (np.float32, 9.0)])
def test_clip_inverse_is_finite_at_and_beyond_the_limit(dtype, bound):
    Z = column(-7.0, -2.0, 2.0, 7.0, dtype=dtype)
    found = SmoothClip(2.0).fit(Z).inverse_transform(Z)
    assert found[0] == found[1] == -found[2] == -found[3]
    assert 2.0 < found[3] < bound * 2.0


def test_clip_lets_missing_values_pass():
    model = SmoothClip().fit(column(1.0, np.nan))
    found = model.transform(column(np.nan, 2.0))
    np.testing.assert_array_equal(np.isnan(found), [[True], [False]])
    assert np.isnan(model.inverse_transform(found)[0, 0])


def test_clip_keeps_float32():
    X = column(1.0, 100.0, dtype=np.float32)
    model = SmoothClip().fit(X)
    assert model.transform(X).dtype == np.float32
    assert model.inverse_transform(model.transform(X)).dtype == np.float32


def test_clip_of_the_largest_float_does_not_overflow():
    largest = np.finfo(float).max
    assert SmoothClip(0.1).fit_transform(column(largest)).item() == 0.1


@pytest.mark.parametrize("limit", [0.0, -1.0, "5", None])
def test_clip_refuses_a_limit_that_is_not_positive(limit):
    with pytest.raises(ValueError, match="'limit' parameter of SmoothClip must be a float"):
        SmoothClip(limit).fit(column(1.0))
