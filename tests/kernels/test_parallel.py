"""Branches side by side: sums, products, concatenations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknk.kernels import (
    NNGP,
    NTK,
    Abs,
    AvgPool2d,
    Conv2d,
    Dense,
    Erf,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    NetworkKernel,
    ParallelConcat,
    ParallelProduct,
    ParallelSum,
    ReLU,
    Repeat,
)
from tests.cases import degenerate_rows, rows
from tests.reference.networks import kernels_of

X, Y = rows(6), rows(4, seed=1)
IMAGES, PIXELS = rows(3, 40), (2, 5, 4)
EXACT = {"rtol": 1e-12, "atol": 1e-13}
MERGERS = [ParallelSum, ParallelProduct, ParallelConcat]
DEEP = Dense(bias_var=0.2) >> ReLU() >> Dense(1.5)
SHALLOW = Dense(0.7, bias_var=0.1)


def both(network, *tables, **params):
    """Return the NNGP and NTK Gram matrices of a network."""
    kernel = NetworkKernel(network, normalize=False, **params)
    return kernel.nngp()(*tables), kernel(*tables)


def residual(depth, merge=ParallelSum):
    block = merge((("skip", Identity()), ("branch", ReLU() >> Dense(bias_var=0.1)))) >> Dense(0.8)
    return Dense(bias_var=0.2) >> Repeat(block, times=depth) >> ReLU() >> Dense()


# --- formulas ----------------------------------------------------------------------------------


def test_sum_adds_kernels():
    (s1, t1), (s2, t2) = both(DEEP, X, Y), both(SHALLOW, X, Y)
    sigma, theta = both(ParallelSum((("a", DEEP), ("b", SHALLOW))), X, Y)
    np.testing.assert_allclose(sigma, s1 + s2, **EXACT)
    np.testing.assert_allclose(theta, t1 + t2, **EXACT)


def test_product_multiplies_kernels_and_differentiates_each_factor():
    (s1, t1), (s2, t2), (s3, t3) = (both(n, X, Y) for n in (DEEP, SHALLOW, Dense(1.1)))
    branches = (("a", DEEP), ("b", SHALLOW), ("c", Dense(1.1)))
    sigma, theta = both(ParallelProduct(branches), X, Y)
    np.testing.assert_allclose(sigma, s1 * s2 * s3, **EXACT)
    np.testing.assert_allclose(theta, t1 * s2 * s3 + s1 * t2 * s3 + s1 * s2 * t3, **EXACT)


@given(a=st.floats(0.1, 10.0), b=st.floats(0.1, 10.0))
def test_concat_averages_kernels_by_widths(a, b):
    (s1, t1), (s2, t2) = both(DEEP, X, Y), both(SHALLOW, X, Y)
    merged = ParallelConcat((("a", DEEP), ("b", SHALLOW)), widths=(a, b))
    sigma, theta = both(merged, X, Y)
    np.testing.assert_allclose(sigma, (a * s1 + b * s2) / (a + b), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(theta, (a * t1 + b * t2) / (a + b), rtol=1e-11, atol=1e-13)


def test_concat_takes_equal_widths_by_default():
    branches = (("a", DEEP), ("b", SHALLOW))
    for found, wanted in zip(
        both(ParallelConcat(branches), X),
        both(ParallelConcat(branches, widths=(3, 3)), X),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("merge", MERGERS)
def test_one_branch_is_the_branch_itself(merge):
    for found, wanted in zip(both(merge((("a", DEEP),)), X, Y), both(DEEP, X, Y), strict=True):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize("merge", MERGERS)
def test_order_of_branches_does_not_matter(merge):
    for found, wanted in zip(
        both(merge((("a", DEEP), ("b", SHALLOW))) >> Dense(), X, Y),
        both(merge((("b", SHALLOW), ("a", DEEP))) >> Dense(), X, Y),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize("merge", MERGERS)
def test_untrained_branches_pass_tangents_on(merge):
    fixed, trained = SHALLOW.untrained(), Dense(bias_var=0.3)
    network = trained >> merge((("a", fixed), ("b", Dense(1.5, trained=False)))) >> Dense()
    for found, wanted in zip(both(network, X, Y), kernels_of(network, X, Y), strict=True):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize("merge", MERGERS)
def test_branches_without_tangents_leave_those_of_the_others(merge):
    network = merge((("fixed", DEEP.untrained()), ("trained", SHALLOW))) >> Dense(trained=False)
    for found, wanted in zip(both(network, X, Y), kernels_of(network, X, Y), strict=True):
        np.testing.assert_allclose(found, wanted, **EXACT)


@pytest.mark.parametrize("merge", MERGERS)
@pytest.mark.parametrize("tables", [(X,), (X, Y)], ids=["auto", "cross"])
@pytest.mark.parametrize("inner", [ReLU(), Erf()], ids=repr)
def test_merged_networks_equal_the_oracle(merge, tables, inner):
    branch = inner >> Dense(bias_var=0.3)
    merged = merge((("skip", Identity()), ("a", branch), ("b", Abs() >> Dense(0.5))))
    network = Dense(bias_var=0.2) >> merged >> Dense() >> merged >> Dense() >> inner >> Dense()
    for found, wanted in zip(both(network, *tables), kernels_of(network, *tables), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("merge", MERGERS)
@pytest.mark.parametrize("end", [Flatten(), GlobalAvgPool2d()], ids=repr)
def test_merged_images_equal_the_oracle(merge, end):
    branch = Conv2d(bias_var=0.1) >> ReLU() >> Conv2d(size=2)
    merged = merge((("a", branch), ("b", Conv2d(size=1))))
    network = Conv2d() >> ReLU() >> merged >> Conv2d(stride=2) >> ReLU() >> end >> Dense()
    found = both(network, IMAGES, image_shape=PIXELS)
    for K, wanted in zip(found, kernels_of(network, IMAGES, image_shape=PIXELS), strict=True):
        np.testing.assert_allclose(K, wanted, rtol=1e-11)


@pytest.mark.parametrize("merge", MERGERS)
def test_branches_may_end_pixels_each_in_its_way(merge):
    flat, pooled = Flatten() >> Dense(), AvgPool2d() >> GlobalAvgPool2d() >> Dense(0.5)
    network = Conv2d() >> ReLU() >> merge((("flat", flat), ("pooled", pooled))) >> Dense()
    found = both(network, IMAGES, image_shape=PIXELS)
    for K, wanted in zip(found, kernels_of(network, IMAGES, image_shape=PIXELS), strict=True):
        np.testing.assert_allclose(K, wanted, rtol=1e-12)


def test_product_of_linear_networks_is_the_polynomial_kernel():
    factors = tuple((f"x{k}", Dense(1.0, 1.0)) for k in range(3))
    found = NetworkKernel(ParallelProduct(factors), "nngp", normalize=False)(X, Y)
    np.testing.assert_allclose(found, (1.0 + X @ Y.T / 3) ** 3, **EXACT)


def test_sum_of_one_skip_and_nothing_is_a_plain_network():
    block = ParallelSum((("skip", Identity()),))
    found = NetworkKernel(Dense() >> block >> ReLU() >> block >> Dense())(X, Y)
    np.testing.assert_allclose(found, NTK(depth=1)(X, Y), **EXACT)


def test_concat_of_copies_changes_nothing():
    both_halves = ParallelConcat((("a", ReLU()), ("b", ReLU())), widths=(1.0, 2.0))
    network = Dense(bias_var=0.1) >> both_halves >> Dense(bias_var=0.1)
    np.testing.assert_allclose(
        NetworkKernel(network, "nngp")(X, Y), NNGP(depth=1, bias_var=0.1)(X, Y), **EXACT
    )


# --- nearly coincident rows --------------------------------------------------------------------

LONG = np.finfo(np.longdouble).eps < 1e-18
needs_long_doubles = pytest.mark.skipif(not LONG, reason="long doubles are doubles here")


@needs_long_doubles
@pytest.mark.parametrize("distance", [1e-4, 1e-7])
@pytest.mark.parametrize("merge", MERGERS)
def test_merging_does_not_lose_digits_at_near_duplicates(distance, merge):
    x = rows(4)
    near = x + distance * rows(4, seed=5)
    network = residual(3, merge)
    wanted = kernels_of(network, x.astype(np.longdouble), near.astype(np.longdouble))
    for found, K in zip(both(network, x, near), wanted, strict=True):
        # The oracle's cosines lose half of a long double's digits; a double's are off by 1e-9.
        np.testing.assert_allclose(found, K.astype(float), rtol=1e-11)


@needs_long_doubles
@pytest.mark.parametrize("merge", MERGERS)
def test_distances_of_merged_features_are_right_at_near_duplicates(merge):
    x, distance = rows(4), 1e-6
    near = x + distance * rows(4, seed=5)
    network = residual(2, merge)
    table = np.vstack([x, near])
    sigma = kernels_of(network, table.astype(np.longdouble))[0]
    wanted = np.diag(sigma)[:4] + np.diag(sigma)[4:] - 2.0 * sigma[np.arange(4), np.arange(4, 8)]
    K = both(network, table)[0]
    found = np.diag(K)[:4] + np.diag(K)[4:] - 2.0 * K[np.arange(4), np.arange(4, 8)]
    # Of order 1e-12: float64 Gram entries hold it to a few of their roundings.
    np.testing.assert_allclose(found, wanted.astype(float), atol=1e-15 * K.max())


@pytest.mark.parametrize("merge", MERGERS)
def test_merged_networks_equal_the_oracle_at_degenerate_rows(merge):
    hard, network = degenerate_rows(), residual(2, merge)
    found = both(network, hard)
    for K, wanted in zip(found, kernels_of(network, hard), strict=True):
        np.testing.assert_allclose(K, wanted, rtol=2e-7, atol=2e-7)  # the oracle's arccos at 1


# --- objects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", MERGERS)
def test_parallel_has_nested_parameters(merge):
    merged = merge((("a", DEEP), ("b", SHALLOW)))
    changed = merged.with_params(a__dense_2__weight_var=3.0, b=Dense())
    assert changed == merge((("a", Dense(bias_var=0.2) >> ReLU() >> Dense(3.0)), ("b", Dense())))
    free = [h.name for h in merged.hyperparameters if not h.fixed]
    assert free == ["a__dense__bias_var", "b__bias_var"]


@pytest.mark.parametrize("merge", MERGERS)
@pytest.mark.parametrize(
    ("branches", "error", "message"),
    [
        ((), TypeError, r"`branches` of {} is \(\); expected a tuple of \(name, layer\) pairs"),
        ((Dense(), ReLU()), TypeError, r"`branches` of {} contains Dense\(\)"),
        ((("a", 1.0),), TypeError, "`a` of {} is 1.0; expected a layer"),
        ((("a", Dense()), ("a", Dense())), ValueError, r"`branches` of {} has the names .*unique"),
        ((("a__b", Dense()),), ValueError, "of {} has the names .* without '__'"),
        ((("branches", Dense()),), ValueError, "of {} has the names .* other than 'branches'"),
    ],
)
def test_parallel_refuses_names_that_parameters_cannot_have(merge, branches, error, message):
    with pytest.raises(error, match=message.format(merge.__name__)):
        merge(branches)


@pytest.mark.parametrize(
    "widths", [(1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), (), (1.0, -2.0), (1.0, np.inf)]
)
def test_concat_refuses_widths_that_do_not_fit(widths):
    with pytest.raises(ValueError, match=r"`widths` of ParallelConcat is .*; expected"):
        ParallelConcat((("a", Dense()), ("b", Dense())), widths=widths)


@pytest.mark.parametrize("merge", MERGERS)
@pytest.mark.parametrize(
    "other",
    [Conv2d(stride=2), Conv2d(size=2, padding="valid"), AvgPool2d(), Flatten(), GlobalAvgPool2d()],
    ids=repr,
)
def test_branches_of_different_size_are_refused(merge, other):
    merged = merge((("a", Conv2d()), ("b", other)))
    network = Conv2d() >> merged
    if not isinstance(other, Flatten | GlobalAvgPool2d):
        network = network >> Flatten()
    kernel = NetworkKernel(network >> Dense(), image_shape=PIXELS)
    message = rf"The branches of {merge.__name__} end with features of shapes .*; expected equal"
    with pytest.raises(ValueError, match=message):
        kernel(IMAGES)
