"""Every network's kernels against wide random torch networks: the definitions themselves.

``layer.finite`` is the layer at finite width; its parameters are standard normal, so networks are
drawn many at a time. Sigma is the mean of f(x) f(x') over output features f and draws. Theta is the
mean of inner products of gradients of v.f, with v = +-1/sqrt(width): its expectation over signs is
the mean over single features.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch.func import functional_call, vmap

from sknk.kernels import (
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LayerNorm,
    NetworkKernel,
    ReLU,
    Repeat,
)
from tests.cases import IMAGE_NETWORKS, NETWORKS, rows

ROWS, PIXELS = rows(3, seed=4), (2, 5, 4)
IMAGES = rows(3, int(np.prod(PIXELS)), seed=4)
SIGMAS = 4.0  # standard errors; 600 entries are compared, with fixed seeds
BIAS = 1.0  # times 1/width: what expectations at finite width may be off by


def estimates(network, X, image_shape, width, draws):
    """Return (mean, standard error) of Sigma and of Theta over random networks."""
    generator = torch.Generator().manual_seed(0)
    x = torch.as_tensor(X if image_shape is None else X.reshape(-1, *image_shape))
    module, sigma, theta = network.finite(x, width, generator), [], []
    for _ in range(draws // 50):
        weights = drawn_weights(module, 50, generator)
        f = vmap(lambda w: functional_call(module, w, (x,)), randomness="different")(weights)
        f = f.flatten(2)  # (draws, n, features)
        sigma.append((f @ f.mT / f.shape[2]).detach())
        signs = torch.randn(f[:, 0].shape, generator=generator, dtype=f.dtype).sign()
        v = signs / f.shape[2] ** 0.5
        theta.append(tangents(f, v, [w for w in weights.values() if w.requires_grad]))
    return [with_error(torch.cat(found).numpy()) for found in (sigma, theta)]


def drawn_weights(module, draws, generator):
    return {
        name: torch.randn(
            (draws, *p.shape), generator=generator, dtype=p.dtype, requires_grad=p.requires_grad
        )
        for name, p in module.named_parameters()
    }


def tangents(f, v, weights):
    """Return inner products of the gradients of v.f, (draws, n, n)."""
    gradients = [
        torch.autograd.grad((row * v).sum(), weights, retain_graph=True, materialize_grads=True)
        for row in f.unbind(1)
    ]
    total = 0.0
    for of_rows in zip(*gradients, strict=True):
        g = torch.stack([gradient.flatten(1) for gradient in of_rows], dim=1)
        total = total + g @ g.mT
    return total


def with_error(samples):
    return samples.mean(0), samples.std(0, ddof=1) / len(samples) ** 0.5


def exact(network, X, image_shape, output):
    return NetworkKernel(network, output, normalize=False, image_shape=image_shape)(X)


def excess(K, estimate, width):
    """Return the largest deviation over what is allowed."""
    mean, error = estimate
    scale = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    return (np.abs(mean - K) / (SIGMAS * error + BIAS / width * scale)).max()


@cache
def case(name):
    """Return (network, rows, their shape, width, estimates); one simulation a network."""
    if name in NETWORKS:
        network, X, image_shape, width, draws = NETWORKS[name], ROWS, None, 48, 400
    else:
        network, X, image_shape, width, draws = IMAGE_NETWORKS[name], IMAGES, PIXELS, 24, 250
    return network, X, image_shape, width, estimates(network, X, image_shape, width, draws)


@pytest.mark.parametrize("name", NETWORKS | IMAGE_NETWORKS)
def test_kernels_are_those_of_wide_networks(name):
    network, X, image_shape, width, (sigma, theta) = case(name)
    assert excess(exact(network, X, image_shape, "nngp"), sigma, width) < 1.0
    if "fan_in" not in repr(network):  # finite networks are in the NTK parametrization: same Sigma
        assert excess(exact(network, X, image_shape, "ntk"), theta, width) < 1.0


MUTANTS = {  # networks and a wrong parameter of theirs, which estimates must tell apart
    "weight_var": ("dense", {"dense__weight_var": 1.1 * 2.0}),
    "bias_var": ("dense", {"dense__bias_var": 0.4}),
    "tangents": ("dense_fixed", {"dense__trained": True}),
    "epsilon": ("layer_norm", {"repeat__layer__layernorm__epsilon": 0.5}),
    "times": ("layer_norm", {"repeat__times": 3}),
    "p": ("dropout", {"dropout__p": 0.15}),
    "branch": ("residual", {"parallelsum__branch__dense__weight_var": 1.1 * 2.0}),
    "widths": ("concat", {"parallelconcat__widths": (3.0, 1.0)}),
    "filters": ("flatten", {"conv2d__weight_var": 1.1 * 2.0}),
    "trained filters": ("flatten", {"conv2d__trained": False}),
    "filter size": ("conv_valid", {"conv2d_2__size": 2}),
    "padding": ("conv_valid", {"conv2d_2__padding": "valid"}),
    "stride": ("conv_stride", {"conv2d__stride": 1}),
    "pooling": ("pool", {"avgpool2d__size": 2}),
}


@pytest.mark.parametrize(("name", "change"), MUTANTS.values(), ids=MUTANTS)
def test_estimates_tell_wrong_networks_apart(name, change):
    network, X, image_shape, width, found = case(name)
    wrong = network.with_params(**change)
    kernels = [exact(wrong, X, image_shape, output) for output in ("nngp", "ntk")]
    assert max(excess(K, e, width) for K, e in zip(kernels, found, strict=True)) > 1.0


def test_bias_of_finite_width_is_below_its_allowance():
    network, width = Repeat(Dense() >> ReLU(), times=2) >> Dense(), 16
    for output, (mean, error) in zip(
        ("nngp", "ntk"), estimates(network, ROWS[:2], None, width, 4000), strict=True
    ):
        K = exact(network, ROWS[:2], None, output)
        scale = np.sqrt(np.outer(np.diag(K), np.diag(K)))
        assert (error < 0.4 * BIAS / width * scale).all()  # so that a bias would show
        assert (np.abs(mean - K) < BIAS / width * scale + SIGMAS * error).all()


# --- modules -----------------------------------------------------------------------------------


def module_of(network, seed=0, width=64):
    x = torch.as_tensor(IMAGES.reshape(-1, *PIXELS))
    return network.finite(x, width, torch.Generator().manual_seed(seed)), x


@pytest.mark.parametrize("layer", [Dense(), Conv2d(size=2)], ids=repr)
def test_weights_are_standard_normal(layer):
    module, _ = module_of(layer, width=500)
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    n = len(weights)
    assert abs(weights.mean()) < 4 / n**0.5
    assert abs(weights.var() - 1.0) < 4 * (2 / n) ** 0.5
    assert abs((weights**4).mean() - 3.0) < 4 * (96 / n) ** 0.5


def test_weights_of_a_chain_are_drawn_apart():
    network = (Dense() >> ReLU()) >> Dense() >> Dense(trained=False)
    module, _ = module_of(network, width=40)
    second, third = (module[k].weights[0].flatten() for k in (2, 3))
    assert abs((second * third).mean()) < 4 / 40
    assert [p.requires_grad for p in module.parameters()] == [True] * 4 + [False] * 2


def test_modules_repeat_with_their_generator():
    network = Conv2d() >> ReLU() >> Dropout(0.5) >> Flatten() >> LayerNorm() >> Dense()
    (a, x), (b, _), (c, _) = module_of(network), module_of(network), module_of(network, seed=1)
    state = torch.get_rng_state()
    assert torch.equal(a(x), b(x))  # masks too
    assert not torch.equal(a(x), a(x))
    assert not torch.equal(b(x), c(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_modules_have_the_width_they_are_asked_for():
    network = Conv2d(padding="valid") >> ReLU() >> GlobalAvgPool2d() >> Dense()
    module, x = module_of(network, width=7)
    assert module(x).shape == (3, 7)
    assert module(x).dtype is torch.float64


def test_dropped_features_are_zero_and_the_others_grow():
    module, x = module_of(Dropout(0.25))
    ratio = module(torch.ones(200, 200, dtype=x.dtype))
    assert set(ratio.unique().tolist()) == {0.0, 1.0 / 0.75}
    assert ratio.mean().item() == pytest.approx(1.0, abs=4 * (1 / 3) ** 0.5 / 200)
