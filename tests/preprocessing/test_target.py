import numpy as np
import pytest
from scipy.stats import skew
from sklearn.preprocessing import PowerTransformer, RobustScaler

from sknk.preprocessing._target import SkewTransformer, skewness


def lognormal(n=200, seed=0):
    return np.exp(np.random.default_rng(seed).normal(0, 1, (n, 1)))


def normal(n=200, seed=0):
    return np.random.default_rng(seed).normal(5, 3, (n, 1))


def test_skewness_is_scipys():
    Y = np.hstack([lognormal(), normal(), -lognormal(seed=1)])
    np.testing.assert_allclose(skewness(Y), skew(Y), rtol=1e-12)


def test_skewness_of_constants_and_huge_values_is_finite():
    Y = np.array([[3.0, 0.0], [3.0, 0.0], [3.0, 1e250]])
    np.testing.assert_allclose(skewness(Y), [0.0, 1 / np.sqrt(2)], rtol=1e-12)


def test_skewed_column_becomes_symmetric_and_standardized():
    Y = lognormal()
    Z = SkewTransformer().fit_transform(Y)
    assert skewness(Y).item() > 1.5
    assert abs(skewness(Z).item()) < 0.3
    np.testing.assert_allclose([Z.mean(), Z.std()], [0, 1], atol=1e-9)


def test_skewed_column_is_transformed_by_power_transformer():
    Y = lognormal()
    expected = PowerTransformer().fit_transform(RobustScaler(unit_variance=True).fit_transform(Y))
    np.testing.assert_allclose(SkewTransformer().fit_transform(Y), expected, rtol=1e-9)


def test_symmetric_column_stays_as_it_is():
    Y = normal()
    model = SkewTransformer().fit(Y)
    assert model.powers_ == [None]
    np.testing.assert_array_equal(model.transform(Y), Y)
    np.testing.assert_array_equal(model.inverse_transform(1e3 * Y), 1e3 * Y)


def test_threshold_decides_and_columns_decide_alone():
    Y = np.hstack([lognormal(), normal(), np.full((200, 1), 2.0)])
    chosen = {
        t: [power is not None for power in SkewTransformer(threshold=t).fit(Y).powers_]
        for t in (0.0, 1.0, 50.0)
    }
    assert chosen == {0.0: [True, True, False], 1.0: [True, False, False], 50.0: [False] * 3}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_transform_round_trip(sign):
    Y = sign * lognormal()
    model = SkewTransformer().fit(Y)
    np.testing.assert_allclose(model.inverse_transform(model.transform(Y)), Y, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_transform_ignores_units_and_origin(unit):
    Y = lognormal()
    one, other = SkewTransformer().fit(Y), SkewTransformer().fit(unit * (Y + 3.0))
    np.testing.assert_allclose(other.transform(unit * (Y + 3.0)), one.transform(Y), rtol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_inverse_far_outside_the_image_is_finite(sign):
    Y = sign * lognormal()
    model = SkewTransformer().fit(Y)
    far = np.array([[-1e6], [1e6]])
    expected = [[Y.min()], [Y.max()]]
    np.testing.assert_allclose(model.inverse_transform(far), expected, rtol=1e-9)
    # The trap that is avoided: beyond -1 / lambda there is no inverse.
    with pytest.warns(UserWarning, match="Some values in column 0 of the inverse-transformed data"):
        assert np.isnan(model.powers_[0].inverse_transform(far)).any()


def test_margin_lets_inverses_leave_the_training_range():
    Y = lognormal()
    far = np.array([[-1e6], [1e6]])
    room = 0.25 * np.ptp(Y)
    found = SkewTransformer(margin=0.25).fit(Y).inverse_transform(far)
    np.testing.assert_allclose(found, [[Y.min() - room], [Y.max() + room]], rtol=1e-6)


def test_power_that_cannot_be_inverted_is_not_used():
    # One value among thousands: its image is the transform's bound to the last bit.
    Y = np.r_[np.linspace(0, 1, 5000), 1e4][:, None]
    model = SkewTransformer().fit(Y)
    np.testing.assert_allclose(model.inverse_transform(model.transform(Y)), Y, atol=1e-6 * 1e4)
    assert np.isfinite(model.inverse_transform([[-1e9], [1e9]])).all()


def test_integer_targets_are_read_as_numbers():
    Y = np.array([[1], [1], [2], [2], [3], [40]])
    model = SkewTransformer().fit(Y)
    assert model.powers_[0] is not None
    np.testing.assert_allclose(model.inverse_transform(model.transform(Y)), Y, rtol=1e-9)


@pytest.mark.parametrize("options", [{"threshold": -1.0}, {"margin": -0.1}, {"margin": "wide"}])
def test_bad_options_raise(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"'{name}' parameter of SkewTransformer must be a float"):
        SkewTransformer(**options).fit(lognormal())
