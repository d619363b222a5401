"""Naive tangent kernels: one backward pass for every row and output, then sums in NumPy.

Everything starts from a `Jacobian` of all rows, J (n, O, P) in float64, and nothing else is shared
with the package: no vmap, no hooks, no factors.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Jacobian(NamedTuple):
    """df/dtheta of rows, and where each parameter stands in its last axis."""

    J: np.ndarray  # (n, O, P)
    slices: dict[str, slice]

    def only(self, *names):
        """Keep some parameters."""
        columns = np.concatenate([np.arange(self.J.shape[2])[self.slices[n]] for n in names])
        return self.J[:, :, columns]


def in_float64(module):
    """A copy in evaluation mode and float64; `Module.double` passes over complex parameters."""
    module = copy.deepcopy(module).eval()
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for t in filter(lambda t: t is not None, tensors.values()):
                if t.is_complex():
                    t.data = t.data.to(torch.complex128)
                elif t.is_floating_point():
                    t.data = t.data.double()
    return module


def outputs(module, X, shape=None, dtype=torch.float64):
    """Outputs of rows one by one, flat, complex ones as (re, im): list of tensors (O,)."""
    found = []
    for row in torch.tensor(X):
        x = row.to(dtype).clone()[None]  # modules may write into it
        out = module(x if shape is None else x.reshape(1, *shape))
        found.append((torch.view_as_real(out) if out.is_complex() else out).reshape(-1))
    return found


def jacobian(module, X, shape=None, dtype=torch.float64):
    """Return the Jacobian in every parameter, unused ones zero, complex ones as (re, im)."""
    module = in_float64(module).requires_grad_(True)
    named = dict(module.named_parameters())  # tied ones once, under their first name
    rows = [[_gradient(f, named) for f in out] for out in outputs(module, X, shape, dtype)]
    J = torch.stack([torch.stack(row) for row in rows]).numpy()
    slices, start = {}, 0
    for name, p in named.items():
        stop = start + p.numel() * (2 if p.is_complex() else 1)
        slices[name], start = slice(start, stop), stop
    return Jacobian(J, slices)


def _gradient(f, named):
    for p in named.values():
        p.grad = None
    if f.requires_grad:
        f.backward(retain_graph=True)
    return torch.cat(
        [_pairs(torch.zeros_like(p) if p.grad is None else p.grad) for p in named.values()]
    )


def _pairs(t):
    # torch keeps d/dre + i d/dim as the gradient of a complex number.
    return (torch.view_as_real(t) if t.is_complex() else t).reshape(-1).detach().clone()


# --- kernels: J (n, O, P) of rows, L (m, O, P) of other rows ------------------------------------


def per_output(J, L=None):
    """K_o = J_o L_o^T, (O, n, m)."""
    return np.einsum("nop,mop->onm", J, J if L is None else L)


def trace(J, L=None):
    """Mean over outputs of their kernels."""
    return per_output(J, L).mean(axis=0)


def pseudo(J, L=None):
    """Kernel of the sum of outputs over sqrt(O)."""
    L = J if L is None else L
    return J.sum(axis=1) @ L.sum(axis=1).T / J.shape[1]


def full(J, L=None):
    """Kernel of every output of every row: row i O + c is output c of row i."""
    L = J if L is None else L
    return J.reshape(-1, J.shape[2]) @ L.reshape(-1, L.shape[2]).T


def labelled(J, y, L=None, z=None):
    """s(y)^T Theta s(z) / O^2, with s 1 at the label and -1 elsewhere."""
    outputs = J.shape[1]
    g = np.einsum("no,nop->np", np.where(np.arange(outputs) == np.c_[y], 1.0, -1.0), J)
    if L is None:
        return g @ g.T / outputs**2
    h = np.einsum("mo,mop->mp", np.where(np.arange(outputs) == np.c_[z], 1.0, -1.0), L)
    return g @ h.T / outputs**2


def sign(J, L=None):
    """Mean over outputs of the kernels of signs."""
    return trace(np.sign(J), None if L is None else np.sign(L))


def asymmetric_sign(J, L=None):
    """Mean over outputs of <sign of the first row's gradient, the second row's gradient>."""
    return trace(np.sign(J), J if L is None else L)


def layerwise(jacobian, other=None):
    """Trace kernel of each parameter by itself."""
    other = jacobian if other is None else other
    return {name: trace(jacobian.only(name), other.only(name)) for name in jacobian.slices}


# --- embeddings of a plain Sequential -------------------------------------------------------------


def hidden(module, X):
    """Inputs of its linear layers but the first, which is given the row."""
    x, found = torch.tensor(X), []
    with torch.no_grad():
        for layer in in_float64(module):
            if isinstance(layer, nn.Linear):
                found.append(x.numpy().copy())
            x = layer(x)
    return found[1:]


def last_layer(module, X, Y=None):
    """Gram matrix of what the last linear layer is given."""
    return hidden(module, X)[-1] @ hidden(module, X if Y is None else Y)[-1].T


def embedding(module, X, Y=None):
    """Sum over hidden layers of their Gram matrices."""
    pairs = zip(hidden(module, X), hidden(module, X if Y is None else Y), strict=True)
    return sum(h @ g.T for h, g in pairs)
