"""NetworkKernel: networks against the oracle and NTK, in scikit-learn's tools, at their limits."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC

from sknk import NTKGaussianProcessRegressor, NTKRidge, NTKRidgeCV, _config, kernels
from sknk.exceptions import MemoryBudgetError
from sknk.kernels import (
    GELU,
    NNGP,
    NTK,
    ABReLU,
    Abs,
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Erf,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LayerNorm,
    LeakyReLU,
    NetworkKernel,
    ParallelConcat,
    ParallelProduct,
    ParallelSum,
    Rbf,
    ReLU,
    Repeat,
    Sin,
)
from tests.cases import IMAGE_NETWORKS, NETWORKS, degenerate_rows, rows
from tests.reference.networks import kernels_of

X, Y = rows(7), rows(4, seed=1)
PIXELS = (2, 4, 3)
IMAGES, OTHERS = rows(4, 24), rows(3, 24, seed=1)
DIABETES, PROGRESS = (scale(a[:100]) for a in load_diabetes(return_X_y=True))
CNN = Conv2d(bias_var=0.1) >> ReLU() >> Conv2d(stride=2) >> ReLU() >> GlobalAvgPool2d() >> Dense()


def plain(depth, weight_var=2.0, bias_var=0.0, activation=ReLU(), fixed_depth=0):  # noqa: B008
    """The layers that NTK stands for."""
    network = None
    for k in range(depth + 1):
        dense = Dense(weight_var, bias_var, trained=k >= fixed_depth)
        network = dense if network is None else network >> activation >> dense
    return network


def assert_equals_oracle(network, *tables, image_shape=None, rtol=1e-10):
    """Compare both kernels relative to the diagonals' geometric means."""
    kernel = NetworkKernel(network, normalize=False, image_shape=image_shape)
    wanted = kernels_of(network, *tables, image_shape=image_shape)
    outer = [np.sqrt(np.outer(*(kernel.nngp().diag(t) for t in (tables[0], tables[-1]))))]
    outer.append(np.sqrt(np.outer(*(kernel.diag(t) for t in (tables[0], tables[-1])))))
    for K, K_oracle, size in zip((kernel.nngp(), kernel), wanted, outer, strict=True):
        np.testing.assert_array_less(np.abs(K(*tables) - K_oracle), rtol * size + 1e-300)


# --- against the oracle ------------------------------------------------------------------------


@pytest.mark.parametrize("tables", [(X,), (X, Y)], ids=["auto", "cross"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks_equal_the_oracle(network, tables):
    assert_equals_oracle(network, *tables, rtol=1e-12)


@pytest.mark.parametrize("tables", [(IMAGES,), (IMAGES, OTHERS)], ids=["auto", "cross"])
@pytest.mark.parametrize("network", IMAGE_NETWORKS.values(), ids=IMAGE_NETWORKS)
def test_networks_of_images_equal_the_oracle(network, tables):
    assert_equals_oracle(network, *tables, image_shape=PIXELS, rtol=1e-12)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks_equal_the_oracle_at_degenerate_rows(network):
    hard = degenerate_rows()[:11]  # copies, near copies, a zero row, antipodal and parallel rows
    if "LayerNorm" in repr(network):
        hard = np.delete(hard, 7, axis=0)  # 0 / 0 without biases
    assert_equals_oracle(network, hard, rtol=1e-6)  # the oracle's arccos at 1, over three layers


ACTIVATIONS = [
    *(ReLU(), LeakyReLU(0.2), Abs(), ABReLU(-0.5, 1.0)),
    *(Erf(0.8, 1.2, 0.1), GELU(), Sin(0.9, 1.1, 0.2), Rbf(0.3)),
]
VARIANCES = st.tuples(st.floats(0.3, 1.5), st.sampled_from([0.0, 0.2]))
activations = st.sampled_from(ACTIVATIONS)


@st.composite
def weight_layers(draw, images):
    weight_var, bias_var = draw(VARIANCES)
    params = {"weight_var": weight_var, "bias_var": bias_var, "trained": draw(st.booleans())}
    if not images:
        return Dense(**params)
    return Conv2d(draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2])), "same", **params)


@st.composite
def hidden_layers(draw, images):
    """Weights, perhaps something that leaves them Gaussian, an activation, perhaps dropout."""
    network = draw(weight_layers(images))
    if draw(st.booleans()):
        network = network >> draw(st.sampled_from([LayerNorm(0.01), Identity()]))
    network = network >> draw(activations)
    if draw(st.integers(0, 3)) == 0:
        network = network >> Dropout(0.3)
    if images and draw(st.integers(0, 3)) == 0:
        network = network >> AvgPool2d(2, 1) if draw(st.booleans()) else network >> AvgPool2d(1)
    return network


@st.composite
def blocks(draw, images):
    kind = draw(st.integers(0, 5))
    if kind > 3:
        return draw(hidden_layers(images))
    if kind == 0:
        return Repeat(draw(hidden_layers(False)), times=draw(st.integers(1, 2)))
    merge = (ParallelSum, ParallelProduct, ParallelConcat)[kind - 1]
    # Filters of one pixel keep branches of one size.
    first, last = Dense(draw(VARIANCES)[0]), Dense(*draw(VARIANCES))
    branch = first >> draw(activations) >> last
    merged = merge((("skip", draw(st.sampled_from([Identity(), Dense(0.5)]))), ("branch", branch)))
    return Dense(*draw(VARIANCES)) >> merged >> Dense(0.7)


@st.composite
def networks(draw, images):
    network = draw(blocks(images))
    for _ in range(draw(st.integers(0, 2))):
        network = network >> draw(blocks(images))
    if images:
        network = network >> draw(st.sampled_from([Flatten(), GlobalAvgPool2d()]))
    return network >> Dense(bias_var=draw(st.sampled_from([0.0, 0.1])))


@settings(max_examples=60)
@given(network=networks(images=False), symmetric=st.booleans())
def test_random_networks_equal_the_oracle(network, symmetric):
    assert_equals_oracle(network, X, *(() if symmetric else (Y,)))


def fits(network):
    """Pooling may leave no pixel."""
    try:
        NetworkKernel(network, image_shape=PIXELS).diag(IMAGES[:1])
    except ValueError as error:
        if "does not fit" not in str(error):
            raise
        return False
    return True


@settings(max_examples=60)
@given(network=networks(images=True).filter(fits), symmetric=st.booleans())
def test_random_networks_of_images_equal_the_oracle(network, symmetric):
    assert_equals_oracle(network, IMAGES, *(() if symmetric else (OTHERS,)), image_shape=PIXELS)


# --- against the flat forms --------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("bias_var", [0.0, 0.3])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("activation", [ReLU(), Abs(), Erf(), GELU()], ids=repr)
def test_network_kernel_is_exactly_the_flat_form(depth, bias_var, normalize, activation):
    network = plain(depth, 1.7, bias_var, activation)
    params = {
        "depth": depth, "activation": activation, "weight_var": 1.7,
        "bias_var": bias_var, "normalize": normalize,
    }  # fmt: skip
    for table in (X, degenerate_rows()):
        for output, flat in (("ntk", NTK(**params)), ("nngp", NNGP(**params))):
            kernel = NetworkKernel(network, output, normalize)
            np.testing.assert_allclose(kernel(table), flat(table), rtol=1e-15, atol=0)
            np.testing.assert_allclose(kernel(table, Y), flat(table, Y), rtol=1e-15, atol=0)
            np.testing.assert_allclose(kernel.diag(table), flat.diag(table), rtol=1e-15, atol=0)


@pytest.mark.parametrize("fixed_depth", [0, 1, 2, 3])
@pytest.mark.parametrize("bias_var", [0.0, 0.3])
def test_network_kernel_is_exactly_the_flat_form_with_fixed_layers(fixed_depth, bias_var):
    kernel = NetworkKernel(plain(3, 2.0, bias_var, fixed_depth=fixed_depth))
    flat = NTK(depth=3, bias_var=bias_var, fixed_depth=fixed_depth)
    for found, wanted in ((kernel(X), flat(X)), (kernel(X, Y), flat(X, Y))):
        np.testing.assert_allclose(found, wanted, rtol=1e-15, atol=0)


def test_network_kernel_is_exactly_the_flat_form_in_float32():
    with _config.config_context(dtype="float32"):
        found = NetworkKernel(plain(2, 2.0, 0.1))(degenerate_rows())
        wanted = NTK(depth=2, bias_var=0.1)(degenerate_rows())
    np.testing.assert_array_equal(found, wanted)


def test_standard_parametrization_is_that_of_the_flat_form():
    network = (
        Dense(bias_var=0.1, fan_in=3) >> ReLU() >> Dense(bias_var=0.1, fan_in=20)
        >> ReLU() >> Dense(bias_var=0.1, fan_in=20)
    )  # fmt: skip
    flat = NTK(depth=2, bias_var=0.1, parametrization="standard", width=20)
    np.testing.assert_allclose(NetworkKernel(network)(X, Y), flat(X, Y), rtol=1e-15, atol=0)


def test_gradients_are_those_of_the_flat_form():
    shared = {"bias_var": 0.2}
    kernel = NetworkKernel(Repeat(Dense(**shared) >> ReLU(), times=2) >> Dense())
    flat = NTK(depth=2, bias_var=0.2)
    W = rows(7, 4, seed=3)
    np.testing.assert_allclose(
        NetworkKernel(plain(2, 2.0, 0.2)).vjp(X, Y, W).X, flat.vjp(X, Y, W).X, rtol=1e-12
    )
    # The last bias is missing from what Repeat shares.
    last = NetworkKernel(kernel.network.with_params(dense__bias_var=0.2))
    np.testing.assert_allclose(last.vjp(X, Y, W).theta.sum(), flat.vjp(X, Y, W).theta.sum())


# --- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["residual", "product", "flatten", "pool"])
def test_joint_has_both_kernels_on_the_scale_of_the_ntk(name, normalize):
    network = (NETWORKS | IMAGE_NETWORKS)[name]
    shape = PIXELS if name in IMAGE_NETWORKS else None
    first, second = (IMAGES, OTHERS) if shape else (X, Y)
    kernel = NetworkKernel(network, normalize=normalize, image_shape=shape)
    raw = NetworkKernel(network, normalize=False, image_shape=shape)
    for pair in ((first,), (first, second)):
        nngp, ntk = kernel.joint(*pair)
        np.testing.assert_array_equal(ntk, kernel(*pair))
        constant = (raw(*pair) / ntk).flat[0]
        np.testing.assert_allclose(nngp * constant, raw.nngp()(*pair), rtol=1e-12)
    for diagonal, K in zip(kernel.joint_diag(first), kernel.joint(first), strict=True):
        np.testing.assert_allclose(diagonal, np.diag(K), rtol=1e-12)


def test_joint_needs_tangents():
    kernel = NetworkKernel(plain(1), output="nngp")
    with pytest.raises(TypeError, match=r"NetworkKernel.*no joint NNGP and NTK"):
        kernel.joint(X)
    with pytest.raises(TypeError, match=r"NetworkKernel.*no joint NNGP and NTK"):
        kernel.joint_diag(X)


def test_nngp_is_the_kernel_before_training():
    kernel = NetworkKernel(CNN, image_shape=(1, 4, 6))
    assert kernel.nngp() == NetworkKernel(CNN, "nngp", image_shape=(1, 4, 6))
    assert kernel.output == "ntk"


@pytest.mark.parametrize("output", ["ntk", "nngp"])
def test_normalize_gives_one_at_ones(output):
    assert NetworkKernel(plain(2, bias_var=0.1), output).diag(np.ones((1, 5))) == pytest.approx([1])
    kernel = NetworkKernel(CNN, output, image_shape=PIXELS)
    assert kernel.diag(np.ones((1, 24))) == pytest.approx([1.0])
    ratio = kernel(IMAGES) / NetworkKernel(CNN, output, False, PIXELS)(IMAGES)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-13)


@pytest.mark.parametrize("tile_size", [1, 2, 3])
@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_results_do_not_depend_on_tiles_of_images(name, tile_size):
    kernel = NetworkKernel(IMAGE_NETWORKS[name], image_shape=PIXELS)
    wanted = kernel(IMAGES), kernel(IMAGES, OTHERS), kernel.diag(IMAGES)
    with _config.config_context(tile_size=tile_size):
        found = kernel(IMAGES), kernel(IMAGES, OTHERS), kernel.diag(IMAGES)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_tiles_of_images_count_pairs_of_pixels():
    """A tile holds about as many numbers as one of rows, whatever the images' size."""
    rows_of_tiles = [
        NetworkKernel(network, image_shape=shape)._tile_rows(
            NetworkKernel(network)._rows(x, None)[0]
        )
        for network, shape, x in (
            (plain(1), None, rows(1, 64)),
            (Conv2d() >> Flatten(), (1, 8, 8), rows(1, 64)),
            (Conv2d() >> GlobalAvgPool2d(), (1, 8, 8), rows(1, 64)),
        )
    ]
    assert rows_of_tiles[0] // 8 - 1 <= rows_of_tiles[1] <= rows_of_tiles[0] // 8 + 1
    assert rows_of_tiles[0] // 64 - 1 <= rows_of_tiles[2] <= rows_of_tiles[0] // 64 + 1


# --- float32 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Flatten(), GlobalAvgPool2d()], ids=repr)
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
def test_float32_keeps_its_digits_on_images(end, bias_var):
    images = load_digits().data[:6] / 16.0
    near = images + 1e-4 * rows(6, 64)
    layer = Conv2d(bias_var=bias_var) >> ReLU()
    kernel = NetworkKernel(Repeat(layer, times=3) >> end >> Dense(), image_shape=(1, 8, 8))
    table = np.vstack([images, near])
    wanted = kernel(table)
    with _config.config_context(dtype="float32"):
        found = kernel(table)
    # 6e-8 a rounding; 3e-7 at most over three layers and the mean.
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    smallest = np.linalg.eigvalsh(found.astype(float))[0]
    # What rounding the entries of the exact matrix does: n roundings of the mean diagonal.
    assert smallest > np.linalg.eigvalsh(wanted)[0] - 12 * 6e-8 * np.diag(wanted).mean()


@pytest.mark.parametrize("name", NETWORKS | IMAGE_NETWORKS)
def test_float32_keeps_its_digits(name):
    shape = PIXELS if name in IMAGE_NETWORKS else None
    kernel = NetworkKernel((NETWORKS | IMAGE_NETWORKS)[name], image_shape=shape)
    table = IMAGES if shape else X
    table = np.vstack([table, table + 1e-4 * rows(*table.shape, seed=2)])
    wanted = kernel(table)
    with _config.config_context(dtype="float32"):
        found = kernel(table)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6 * np.abs(wanted).max())


# --- objects -----------------------------------------------------------------------------------


def test_get_params_is_nested():
    kernel = NetworkKernel(Dense() >> ReLU() >> Dense(bias_var=0.2))
    params = kernel.get_params()
    assert params["network__dense_2__bias_var"] == 0.2
    assert params["network__relu"] == ReLU()
    assert set(kernel.get_params(deep=False)) == {"network", "output", "normalize", "image_shape"}


def test_set_params_reaches_layers_and_replaces_them():
    network = Dense() >> ReLU() >> Dense()
    kernel = NetworkKernel(network)
    kernel.set_params(network__dense__bias_var=0.5, network__relu=Erf(), output="nngp")
    assert kernel == NetworkKernel(Dense(bias_var=0.5) >> ReLU() >> Dense(), "nngp").set_params(
        network__relu=Erf()
    )
    assert network == Dense() >> ReLU() >> Dense()  # the user's layers stay
    kernel.set_params(network=plain(1), network__dense__weight_var=1.0)
    assert kernel.network == plain(1).with_params(dense__weight_var=1.0)
    assert kernel.set_params() is kernel


@pytest.mark.parametrize("name", ["network__dense__width", "network__tanh", "depth", "dense__x"])
def test_set_params_refuses_unknown_names(name):
    with pytest.raises(ValueError, match=r"is no parameter of|Invalid parameter"):
        NetworkKernel(plain(1)).set_params(**{name: 1.0})


def test_kernels_are_equal_by_value():
    kernel = NetworkKernel(CNN, image_shape=PIXELS)
    for other in (
        clone(kernel),
        pickle.loads(pickle.dumps(kernel)),
        eval(repr(kernel), vars(kernels)),
    ):
        assert other == kernel
        assert repr(other) == repr(kernel)
    assert kernel != NetworkKernel(CNN, image_shape=(2, 3, 4))
    assert kernel != NetworkKernel(CNN, "nngp", image_shape=PIXELS)
    assert kernel != NetworkKernel(CNN.with_params(conv2d__bias_var=0.2), image_shape=PIXELS)


def test_theta_names_free_parameters_in_the_order_of_layers():
    network = Dense(bias_var=0.1, weight_var_bounds=(0.1, 9.0)) >> ReLU() >> Dense(bias_var=0.4)
    kernel = NetworkKernel(network)
    free = [h.name for h in kernel.hyperparameters if not h.fixed]
    assert free == [
        "network__dense__weight_var", "network__dense__bias_var", "network__dense_2__bias_var"
    ]  # fmt: skip
    np.testing.assert_allclose(np.exp(kernel.theta), [2.0, 0.1, 0.4])
    kernel.theta = np.log([1.0, 0.3, 0.6])
    wanted = Dense(1.0, 0.3, weight_var_bounds=(0.1, 9.0)) >> ReLU() >> Dense(bias_var=0.6)
    np.testing.assert_allclose(kernel(X), NetworkKernel(wanted)(X), rtol=1e-14)


# --- scikit-learn's tools and ours -------------------------------------------------------------


def test_grid_search_reaches_layers():
    pipeline = make_pipeline(StandardScaler(), NTKRidge(NetworkKernel(plain(1, bias_var=0.1))))
    search = GridSearchCV(
        pipeline,
        {
            "ntkridge__kernel__network__dense__bias_var": [0.0, 0.5],
            "ntkridge__kernel__network__relu": [ReLU(), Erf()],
            "ntkridge__alpha": [1.0],
        },
        cv=3,
    ).fit(DIABETES, PROGRESS)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    best = search.best_estimator_[-1].kernel.get_params()
    for name, value in search.best_params_.items():
        if "network" in name:
            assert best[name.removeprefix("ntkridge__kernel__")] == value


def test_ridge_selects_layers_by_leave_one_out():
    model = NTKRidgeCV(
        NetworkKernel(plain(1, bias_var=0.1)),
        param_grid={"network__dense__bias_var": [0.0, 0.1, 1.0], "network__relu": [ReLU(), Erf()]},
        alphas=[0.1, 1.0],
    ).fit(DIABETES, PROGRESS)
    assert model.score(DIABETES, PROGRESS) > 0.4
    assert isinstance(model.kernel_, NetworkKernel)


def test_ridge_on_a_network_is_ridge_on_its_gram():
    kernel = NetworkKernel(NETWORKS["residual"])
    model = NTKRidge(kernel, alpha=0.5, fit_intercept=False).fit(DIABETES[:80, :3], PROGRESS[:80])
    K = kernel(DIABETES[:, :3])
    wanted = K[80:, :80] @ np.linalg.solve(K[:80, :80] + 0.5 * np.eye(80), PROGRESS[:80])
    np.testing.assert_allclose(model.predict(DIABETES[80:, :3]), wanted, rtol=1e-8)


@pytest.mark.parametrize("name", ["dense", "residual", "layer_norm", "product"])
@pytest.mark.filterwarnings("ignore:The optimal value:sklearn.exceptions.ConvergenceWarning")
def test_gaussian_process_regressor_moves_theta_uphill(name):
    kernel = NetworkKernel(NETWORKS[name])
    model = GaussianProcessRegressor(kernel, alpha=0.5).fit(DIABETES[:40, 2:5], PROGRESS[:40])
    start = kernel.theta
    assert len(start) > 0
    assert np.abs(model.kernel_.theta - start).max() > 0.1
    assert model.log_marginal_likelihood_value_ > model.log_marginal_likelihood(start)
    np.testing.assert_array_equal(kernel.theta, start)  # the user's object stays


@pytest.mark.filterwarnings("ignore:The optimal value:sklearn.exceptions.ConvergenceWarning")
def test_gaussian_process_regressor_moves_theta_of_filters():
    digits, labels = load_digits(return_X_y=True)
    layer = Conv2d(stride=2, bias_var=0.5) >> ReLU()
    kernel = 3.0 * NetworkKernel(layer >> Flatten() >> Dense(), image_shape=(1, 8, 8))
    model = GaussianProcessRegressor(kernel, alpha=0.1).fit(digits[:20] / 16, labels[:20] == 0)
    assert np.abs(model.kernel_.theta - kernel.theta).max() > 0.1
    moved = model.kernel_.get_params()["kernel__network__conv2d__bias_var"]
    assert moved != 0.5


@pytest.mark.parametrize("posterior", ["ntkgp", "nngp", "ensemble"])
def test_our_gaussian_process_takes_networks(posterior):
    kernel = NetworkKernel(plain(1, bias_var=0.1))
    known = {"amplitude": 1.0, "noise_variance": 0.3, "optimizer": None, "posterior": posterior}
    model = NTKGaussianProcessRegressor(kernel, **known).fit(DIABETES[:60], PROGRESS[:60])
    flat = NTKGaussianProcessRegressor(NTK(depth=1, bias_var=0.1), **known)
    flat.fit(DIABETES[:60], PROGRESS[:60])
    for found, wanted in zip(
        model.predict(DIABETES[60:], return_std=True),
        flat.predict(DIABETES[60:], return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_support_vector_machine_classifies_images():
    digits, labels = load_digits(return_X_y=True)
    kernel = NetworkKernel(
        Conv2d() >> ReLU() >> Conv2d(stride=2) >> ReLU() >> Flatten() >> Dense(),
        image_shape=(1, 8, 8),
    )
    model = SVC(kernel=kernel, C=10.0).fit(digits[:80] / 16, labels[:80])
    assert model.score(digits[80:160] / 16, labels[80:160]) > 0.9
    stored = SVC(kernel="precomputed", C=10.0).fit(kernel(digits[:80] / 16), labels[:80])
    np.testing.assert_array_equal(
        stored.predict(kernel(digits[80:160] / 16, digits[:80] / 16)),
        model.predict(digits[80:160] / 16),
    )


# --- what is no network ------------------------------------------------------------------------


@pytest.mark.parametrize("network", [ReLU, "dense", None, 3.0, [Dense()]])
def test_what_is_no_layer_is_refused(network):
    with pytest.raises(TypeError, match=r"`network` is .*; expected layers such as Dense\(\)"):
        NetworkKernel(network)(X)


def test_unknown_output_is_refused():
    with pytest.raises(ValueError, match="`output` is 'NTK'; expected 'ntk' or 'nngp'"):
        NetworkKernel(plain(1), output="NTK")(X)


@pytest.mark.parametrize(
    "image_shape", [(1, 5, 5), (24,), (4, 6), (1, 2, 3, 4), (-2, -4, 3), (0, 4, 3)]
)
def test_wrong_image_shape_is_refused(image_shape):
    message = r"`image_shape` is \(.*\) and rows have 24 features; expected \(c, h, w\) with c h w"
    with pytest.raises(ValueError, match=message):
        NetworkKernel(CNN, image_shape=image_shape)(IMAGES)


def test_images_that_are_too_large_for_pairs_of_pixels_are_refused():
    message = r"One pair of images with 331776 pairs of pixels.*Use smaller images, strides"
    with (
        _config.config_context(memory_budget=10_000_000),
        pytest.raises(MemoryBudgetError, match=message),
    ):
        NetworkKernel(CNN, image_shape=(1, 24, 24))(np.ones((1, 576)))


def test_image_shape_may_be_any_sequence():
    found = NetworkKernel(CNN, image_shape=[2, 4, 3])(IMAGES)
    np.testing.assert_array_equal(found, NetworkKernel(CNN, image_shape=(2, 4, 3))(IMAGES))


@pytest.mark.parametrize(
    "network", [Conv2d(), Conv2d() >> ReLU() >> AvgPool2d(), Dense() >> ReLU()], ids=repr
)
def test_networks_that_end_with_pixels_are_refused(network):
    message = r"The network ends with pixels: .*Add GlobalAvgPool2d\(\) or Flatten\(\)"
    kernel = NetworkKernel(network, image_shape=PIXELS)
    with pytest.raises(ValueError, match=message):
        kernel(IMAGES)
    with pytest.raises(ValueError, match=message):
        kernel.diag(IMAGES)


@pytest.mark.parametrize(
    "network",
    [Dense(trained=False), plain(2).untrained(), Identity(), LayerNorm() >> Dense(trained=False)],
    ids=repr,
)
def test_untrained_networks_have_no_tangent_kernel(network):
    message = "No layer of .* is trained, so it has no tangent kernel. Train one, or pass output="
    for call in ("__call__", "diag", "joint"):
        with pytest.raises(ValueError, match=message):
            getattr(NetworkKernel(network), call)(X)
    assert np.isfinite(NetworkKernel(network, "nngp")(X)).all()


@pytest.mark.parametrize(
    "network",
    [
        ReLU() >> Dense(),
        Dense() >> ReLU() >> Erf() >> Dense(),
        Dense() >> Dropout(0.1) >> ReLU() >> Dense(),
        ParallelProduct((("a", Dense()), ("b", Dense()))) >> ReLU() >> Dense(),
        Repeat(Dense() >> ReLU() >> ReLU()),
        Dense() >> ReLU() >> ParallelSum((("a", Dense()), ("b", ReLU()))) >> Dense(),
    ],
    ids=repr,
)
def test_activations_refuse_features_that_are_not_gaussian(network):
    with pytest.raises(ValueError, match=r"follows features that are not Gaussian.*Put Dense"):
        NetworkKernel(network)(rows(3))


@pytest.mark.parametrize(
    "merger",
    [
        ParallelSum((("a", Identity()), ("b", Identity()))),
        ParallelSum((("a", Identity()), ("b", ReLU()))),
        ParallelSum((("a", Dense() >> ReLU()), ("b", Dense() >> ReLU()))),
        ParallelProduct((("a", Identity()), ("b", ReLU()))),
        ParallelProduct((("a", Dense()), ("b", ReLU()), ("c", Dense() >> ReLU()))),
    ],
    ids=repr,
)
def test_branches_that_correlate_are_refused(merger):
    with pytest.raises(ValueError, match=r"end without weights of their own.*all but one"):
        NetworkKernel(Dense() >> merger >> Dense())(rows(3))
