"""Layers one at a time: Dense, LayerNorm, Dropout, Identity; what every layer is."""

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknk.kernels import (
    NTK,
    Conv2d,
    Dense,
    Dropout,
    Erf,
    Flatten,
    Identity,
    LayerNorm,
    NetworkKernel,
    ReLU,
)
from tests.cases import degenerate_rows, rows
from tests.reference.networks import kernels_of

X, Y = rows(6), rows(4, seed=1)
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # a few hundred roundings on entries of order one


def nngp(network, *tables, **params):
    return NetworkKernel(network, "nngp", normalize=False, **params)(*tables)


def ntk(network, *tables, **params):
    return NetworkKernel(network, normalize=False, **params)(*tables)


# --- Dense -------------------------------------------------------------------------------------


@given(w=st.floats(0.1, 4.0), b=st.floats(0.0, 4.0), fan_in=st.sampled_from([None, 7]))
def test_dense_adds_its_tangents(w, b, fan_in):
    cov, layer = X @ Y.T / 3, Dense(w, b, fan_in=fan_in)
    np.testing.assert_allclose(nngp(layer, X, Y), w * cov + b, rtol=1e-11, atol=1e-12)
    own = w * cov + b if fan_in is None else fan_in * cov + float(b > 0)
    np.testing.assert_allclose(ntk(layer, X, Y), own, rtol=1e-11, atol=1e-12)
    below = Dense(1.3) >> layer
    own = nngp(below, X, Y) if fan_in is None else fan_in * 1.3 * cov + float(b > 0)
    np.testing.assert_allclose(ntk(below, X, Y), own + w * 1.3 * cov, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("layer", [Dense(bias_var=0.3), Conv2d(bias_var=0.3)], ids=repr)
def test_untrained_layer_contributes_no_tangents(layer):
    end = Flatten() if isinstance(layer, Conv2d) else Identity()
    shape = {"image_shape": (1, 1, 3)} if isinstance(layer, Conv2d) else {}
    fixed = layer.untrained() >> end >> Dense()
    assert not layer.untrained().trained
    assert layer.untrained().untrained() == layer.untrained()
    np.testing.assert_allclose(ntk(fixed, X, Y, **shape), nngp(fixed, X, Y, **shape), **EXACT)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_untrained_layers_are_fixed_depth(depth):
    network = Dense(1.5, 0.2, trained=depth < 1)
    for k in range(1, 4):
        network = network >> ReLU() >> Dense(1.5, 0.2, trained=depth < k + 1)
    kernel = NetworkKernel(network)
    wanted = NTK(depth=3, weight_var=1.5, bias_var=0.2, fixed_depth=depth)
    np.testing.assert_array_equal(kernel(X, Y), wanted(X, Y))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"weight_var": 0.0}, ValueError, "`weight_var` of {} is 0, which makes every row equal"),
        ({"weight_var": -1.0}, ValueError, "`weight_var` of {} is -1.0; expected a finite number"),
        ({"weight_var": np.inf}, ValueError, "`weight_var` of {} is inf; expected a finite number"),
        ({"bias_var": -0.1}, ValueError, "`bias_var` of {} is -0.1; expected a finite number"),
        ({"bias_var": np.nan}, ValueError, "`bias_var` of {} is nan; expected a finite number"),
        ({"bias_var": "much"}, TypeError, "`bias_var` of {} is 'much'; expected a number"),
        ({"weight_var": True}, TypeError, "`weight_var` of {} is True; expected a number"),
    ],
)
@pytest.mark.parametrize("layer", [Dense, Conv2d])
def test_variances_that_no_layer_has_are_refused(layer, params, error, message):
    with pytest.raises(error, match=message.format(layer.__name__)):
        layer(**params)


# --- LayerNorm ---------------------------------------------------------------------------------


@given(scales=st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6))
def test_layer_norm_forgets_the_length_of_rows(scales):
    network = Dense(1.7) >> LayerNorm(epsilon=0.0) >> ReLU() >> Dense()
    scaled = np.array(scales)[:, None] * X
    np.testing.assert_allclose(
        nngp(network, scaled, Y), nngp(network, X, Y), rtol=1e-11, atol=1e-12
    )
    # Tangents of the layer below are divided by the lengths too.
    np.testing.assert_allclose(ntk(network, scaled, Y), ntk(network, X, Y), rtol=1e-11, atol=1e-12)


def test_layer_norm_makes_variances_one():
    network = Dense(bias_var=0.2) >> LayerNorm(epsilon=0.0)
    np.testing.assert_allclose(np.diag(nngp(network, X)), 1.0, rtol=1e-12)
    assert nngp(network, X[:1], X[:1] * 3)[0, 0] < 1.0  # the bias turned the rows


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 0.5])
def test_layer_norm_equals_the_oracle(epsilon):
    network = Dense(bias_var=0.2) >> LayerNorm(epsilon) >> Erf() >> Dense(bias_var=0.1)
    for found, wanted in zip(
        (nngp(network, X, Y), ntk(network, X, Y)), kernels_of(network, X, Y), strict=True
    ):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12])
def test_layer_norm_of_zero_rows_is_finite(epsilon):
    network = Dense() >> LayerNorm(epsilon) >> ReLU() >> Dense()
    zeros = np.zeros((1, 3))
    assert nngp(network, zeros)[0, 0] == ntk(network, zeros)[0, 0] == 0.0
    gradient = NetworkKernel(network).vjp(zeros, X, np.ones((1, 6)))
    assert np.isfinite(gradient.X).all()
    assert np.isfinite(gradient.Y).all()


def test_layer_norm_refuses_a_negative_epsilon():
    with pytest.raises(ValueError, match=r"`epsilon` of LayerNorm is -1.0; expected a finite"):
        LayerNorm(-1.0)


# --- Dropout -----------------------------------------------------------------------------------

DROPPING = Dense(bias_var=0.2) >> ReLU() >> Dropout(0.3) >> Dense() >> Erf() >> Dense()


def test_dropout_of_nothing_is_the_identity():
    for output in (nngp, ntk):
        kept, bare = (
            output(Dense() >> ReLU() >> layer >> Dense(), X) for layer in (Dropout(0.0), Identity())
        )
        np.testing.assert_array_equal(kept, bare)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_adds_a_ridge_to_the_layer_after_it(p):
    dropped, kept = (Dense() >> ReLU() >> layer >> Dense() for layer in (Dropout(p), Identity()))
    for output in (nngp, ntk):
        wanted = output(kept, X)
        wanted[np.diag_indices(6)] *= 1 / (1 - p)
        np.testing.assert_allclose(output(dropped, X), wanted, **EXACT)


def test_dropout_tells_a_row_from_its_copy():
    for output in (nngp, ntk):
        alone, copied = output(DROPPING, X), output(DROPPING, X, X.copy())
        off = ~np.eye(6, dtype=bool)
        np.testing.assert_allclose(copied[off], alone[off], **EXACT)
        assert (np.diag(alone) > 1.05 * np.diag(copied)).all()
        twice = output(DROPPING, np.vstack([X, X]))  # a copy within one table is a copy too
        np.testing.assert_allclose(twice[:6, 6:], copied, **EXACT)
        np.testing.assert_allclose(twice[6:, 6:], alone, **EXACT)


def test_dropout_equals_the_oracle():
    hard = degenerate_rows()
    for tables in ((X,), (X, Y)):
        found = nngp(DROPPING, *tables), ntk(DROPPING, *tables)
        for K, wanted in zip(found, kernels_of(DROPPING, *tables), strict=True):
            np.testing.assert_allclose(K, wanted, **EXACT)
    np.testing.assert_allclose(nngp(DROPPING, hard), kernels_of(DROPPING, hard)[0], rtol=1e-7)


@pytest.mark.parametrize("p", [1, 1.0, 1.5])
def test_dropout_refuses_to_drop_everything(p):
    with pytest.raises(ValueError, match=f"`p` of Dropout is {p!r}; expected a probability below"):
        Dropout(p)


@pytest.mark.parametrize(("p", "error"), [(-0.1, ValueError), ("half", TypeError)])
def test_dropout_refuses_what_is_no_probability(p, error):
    with pytest.raises(error, match=f"`p` of Dropout is {p!r}; expected"):
        Dropout(p)


# --- what every layer is -----------------------------------------------------------------------

LAYERS = [Dense(bias_var=0.1), Conv2d(size=2), LayerNorm(), Dropout(0.2), Identity(), Erf(a=2.0)]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_are_immutable_values(layer):
    again = pickle.loads(pickle.dumps(layer))
    assert again == layer
    assert hash(again) == hash(layer)
    assert sum(other == layer for other in LAYERS) == 1
    with pytest.raises(FrozenInstanceError):
        layer.weight_var = 1.0


def test_repr_leaves_defaults_out():
    assert repr(Dense(1.0, bias_var=0.1)) == "Dense(weight_var=1.0, bias_var=0.1)"
    assert repr(Conv2d(stride=2, padding="valid")) == "Conv2d(stride=2, padding='valid')"
    assert repr(Identity()) == "Identity()"


def test_with_params_makes_a_new_layer():
    layer = Dense()
    changed = layer.with_params(weight_var=1.0, trained=False)
    assert changed == Dense(1.0, trained=False)
    assert layer == Dense()
    assert layer.with_params() is layer
    with pytest.raises(
        ValueError, match=r"`weights` is no parameter of Dense\(\); expected one of"
    ):
        layer.with_params(weights=3.0)
    with pytest.raises(ValueError, match=r"`dense__bias_var` is no parameter of Dense\(\)"):
        layer.with_params(dense__bias_var=3.0)
    with pytest.raises(ValueError, match=r"`bias_var` of Dense is -1.0"):
        layer.with_params(bias_var=-1.0)


def test_zero_variances_are_fixed():
    free = {h.name: h.fixed for h in Dense(weight_var_bounds=(0.1, 10.0)).hyperparameters}
    assert free == {"weight_var": False, "bias_var": True}
    assert [h.fixed for h in Dense(bias_var=0.1).hyperparameters] == [True, False]


def test_dense_and_activations_on_pixels_are_those_on_rows():
    """One pixel is a row; images of one pixel are rows."""
    network = Dense(bias_var=0.2) >> ReLU() >> Dense()
    shape = {"image_shape": (3, 1, 1)}
    found = ntk(network >> Flatten(), X, Y, **shape)
    np.testing.assert_allclose(found, ntk(network, X, Y), **EXACT)
