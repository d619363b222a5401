"""Naive NumPy layer algebra: whole covariance tensors of textbook formulas, one shape for all.

A state is Sigma and Theta of all N rows at once, (N, N, h, w, h, w); rows without pixels are images
of one pixel. Diagonals are read off Sigma, never followed on their own. Everything is computed in
the dtype of the rows: `np.longdouble` rows give three more digits. Cosines lose half of them near
coincidence.
"""

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from sknk import kernels as sknk
from tests.reference import kernels as duals

# Layers to duals; the parameters of a layer are its dataclass's.
DUALS = {
    sknk.ReLU: lambda layer: duals.relu,
    sknk.LeakyReLU: lambda layer: partial(duals.abrelu, layer.negative_slope, 1.0),
    sknk.ABReLU: lambda layer: partial(duals.abrelu, layer.a, layer.b),
    sknk.Abs: lambda layer: partial(duals.abrelu, -1.0, 1.0),
    sknk.Erf: lambda layer: partial(scaled_erf, layer.a, layer.b, layer.c),
    sknk.GELU: lambda layer: duals.gelu,
    sknk.Sin: lambda layer: partial(duals.sin, layer.a, layer.b, layer.c),
    sknk.Rbf: lambda layer: partial(duals.rbf, layer.gamma),
}


class Covariances(NamedTuple):
    """Sigma and Theta of a layer's outputs, (N, N, h, w, h, w); Theta 0 before trained layers."""

    sigma: np.ndarray
    theta: np.ndarray

    @property
    def variances(self):
        """Diagonals as the first and as the second of a pair: (N, 1, h, w, 1, 1) and mirrored."""
        q = np.einsum("iihwhw->ihw", self.sigma)
        return q[:, None, :, :, None, None], q[None, :, None, None]

    def both(self, change):
        """Apply the same linear map to both."""
        return Covariances(change(self.sigma), change(self.theta))


def kernels_of(network, X, Y=None, image_shape=None):
    """Return (Sigma, Theta) of a network between X and Y (or X and X), (n, m) each.

    Rows of Y are other rows than those of X, whatever they hold: dropout masks differ.
    """
    stacked = X if Y is None else np.vstack([X, Y])
    found = propagated(network, inputs(stacked, image_shape))
    assert found.sigma.shape[2:] == (1, 1, 1, 1), "pixels are left"
    columns = slice(None) if Y is None else slice(len(X), None)
    return tuple(K[: len(X), columns, 0, 0, 0, 0] for K in found)


def inputs(X, image_shape=None):
    """Mean products of channels at all pairs of pixels."""
    c, h, w = image_shape or (X.shape[1], 1, 1)
    images = X.reshape(len(X), c, h, w)
    sigma = np.zeros((len(X), len(X), h, w, h, w), dtype=X.dtype)
    for channel in range(c):
        x = images[:, channel]
        sigma += x[:, None, :, :, None, None] * x[None, :, None, None]
    return Covariances(sigma / c, np.zeros_like(sigma))


def propagated(layer, state):
    """Return the state after a layer."""
    if type(layer) in DUALS:
        return activated(state, DUALS[type(layer)](layer))
    return RULES[type(layer)](layer, state)


def scaled_erf(a, b, c, q1, q, q2):
    """a erf(b x) + c from erf: the mean of erf is zero."""
    value, slope = duals.erf(b * b * q1, b * b * q, b * b * q2)
    return a * a * value + c * c, a * a * b * b * slope


def activated(state, dual):
    """Apply E[phi phi] to Sigma and E[phi' phi'] to Theta, entry by entry."""
    q1, q2 = state.variances
    value, slope = dual(q1, state.sigma, q2)
    return Covariances(value, slope * state.theta)


def dense(layer, state):
    """Jacot et al. 2018; Sohl-Dickstein et al. 2020 where there is a fan-in."""
    sigma = layer.weight_var * state.sigma + layer.bias_var
    own = sigma
    if layer.fan_in is not None:
        own = layer.fan_in * state.sigma + float(layer.bias_var > 0)
    return Covariances(sigma, layer.weight_var * state.theta + (own if layer.trained else 0.0))


def convolution(layer, state):
    """Pad with zeros, then add the shifted tensors of every offset of the filter."""
    k, stride = layer.size, layer.stride
    pads = [(0, 0)] * 2
    if layer.padding == "same":
        pads = [same_padding(n, k, stride) for n in state.sigma.shape[2:4]]

    def patch_mean(v):
        v = np.pad(v, [(0, 0)] * 2 + pads + pads)
        h, w = ((n - k) // stride + 1 for n in v.shape[2:4])
        total = np.zeros((*v.shape[:2], h, w, h, w), dtype=v.dtype)
        for a, b in product(range(k), repeat=2):
            rows = slice(a, a + (h - 1) * stride + 1, stride)
            columns = slice(b, b + (w - 1) * stride + 1, stride)
            total += v[:, :, rows, columns, rows, columns]
        return total / k**2

    mean = state.both(patch_mean)
    sigma = layer.weight_var * mean.sigma + layer.bias_var
    return Covariances(sigma, layer.weight_var * mean.theta + (sigma if layer.trained else 0.0))


def same_padding(length, size, stride):
    """The fewest zeros that make ceil(length / stride) windows, the odd one behind."""
    outputs, total = -(-length // stride), 0
    while (length + total - size) // stride + 1 < outputs:
        total += 1
    return total // 2, total - total // 2


def average_pooling(layer, state):
    """Mean over all pairs of pixels of all pairs of windows, one window after the other."""
    size, stride = layer.size, layer.stride or layer.size
    starts = [range(0, n - size + 1, stride) for n in state.sigma.shape[2:4]]
    h, w = map(len, starts)

    def pooled(v):
        out = np.zeros((*v.shape[:2], h, w, h, w), dtype=v.dtype)
        for (a, top), (b, left), (c, top2), (d, left2) in product(*map(enumerate, starts * 2)):
            rows, columns = slice(top, top + size), slice(left, left + size)
            rows2, columns2 = slice(top2, top2 + size), slice(left2, left2 + size)
            out[:, :, a, b, c, d] = v[:, :, rows, columns, rows2, columns2].mean((2, 3, 4, 5))
        return out

    return state.both(pooled)


def global_pooling(layer, state):
    return state.both(lambda v: v.mean((2, 3, 4, 5), keepdims=True))


def flattening(layer, state):
    def mean_of_equal_pixels(v):
        h, w = v.shape[2:4]
        total = sum(v[:, :, a, b, a, b] for a, b in product(range(h), range(w))) / (h * w)
        return total[:, :, None, None, None, None]

    return state.both(mean_of_equal_pixels)


def layer_norm(layer, state):
    q1, q2 = state.variances
    return state.both(lambda v: v / np.sqrt((q1 + layer.epsilon) * (q2 + layer.epsilon)))


def dropout(layer, state):
    """Divide what a row, at a pixel, has with itself by the probability of keeping."""
    n, _, h, w = state.sigma.shape[:4]
    itself = np.einsum("ij,hk,wl->ijhwkl", np.eye(n), np.eye(h), np.eye(w)) > 0
    return state.both(lambda v: np.where(itself, v / (1.0 - layer.p), v))


def identity(layer, state):
    return state


def serial(layer, state):
    for _, part in layer.layers:
        state = propagated(part, state)
    return state


def repeat(layer, state):
    for _ in range(layer.times):
        state = propagated(layer.layer, state)
    return state


def parallel_sum(layer, state):
    parts = [propagated(branch, state) for _, branch in layer.branches]
    return Covariances(sum(p.sigma for p in parts), sum(p.theta for p in parts))


def parallel_concat(layer, state):
    parts = [propagated(branch, state) for _, branch in layer.branches]
    widths = np.array(layer.widths or [1.0] * len(parts))
    weighted = [
        part.both(lambda v, share=share: share * v)
        for part, share in zip(parts, widths / widths.sum(), strict=True)
    ]
    return Covariances(sum(p.sigma for p in weighted), sum(p.theta for p in weighted))


def parallel_product(layer, state):
    """The product rule, factor by factor."""
    (_, first), *others = layer.branches
    sigma, theta = propagated(first, state)
    for _, branch in others:
        part = propagated(branch, state)
        sigma, theta = sigma * part.sigma, theta * part.sigma + sigma * part.theta
    return Covariances(sigma, theta)


RULES = {
    sknk.Dense: dense,
    sknk.Conv2d: convolution,
    sknk.AvgPool2d: average_pooling,
    sknk.GlobalAvgPool2d: global_pooling,
    sknk.Flatten: flattening,
    sknk.LayerNorm: layer_norm,
    sknk.Dropout: dropout,
    sknk.Identity: identity,
    sknk.Serial: serial,
    sknk.Repeat: repeat,
    sknk.ParallelSum: parallel_sum,
    sknk.ParallelConcat: parallel_concat,
    sknk.ParallelProduct: parallel_product,
}
