"""How the tests hold a layer in their hands: states from rows or numbers, one layer at a time."""

import numpy as np
import torch

from sknk.kernels._inputs import Directions, half_angles
from sknk.kernels._state import Features, KernelState


def one(value):
    return torch.full((1, 1), float(value), dtype=torch.float64)


def column(values):
    return torch.as_tensor(np.asarray(values, dtype=np.float64)).reshape(-1, 1)


def scales(weight_var, bias_var):
    """The two variances as layers receive them."""
    return {"weight_var": one(weight_var)[0, 0], "bias_var": one(bias_var)[0, 0]}


def state_of_rows(x, y, dtype=torch.float64):
    """The input layer's state of two tables, (n, d) and (m, d)."""
    units, features = [], []
    for table in map(torch.as_tensor, (x, y)):
        norm2 = (table * table).sum(1, keepdim=True)
        norm = torch.where(norm2 > 0, torch.where(norm2 > 0, norm2, 1.0).sqrt(), 1.0)
        units.append(table / norm)
        features.append(Features.of(norm2 / table.shape[1]))
    x, y = features[0].to(dtype), features[1].columns.to(dtype)
    sin2, cos2 = half_angles(*map(Directions.of, units), dtype)
    return KernelState(x, y, sin2=sin2, cos2=cos2)


def state_of_variances(var_x, var_y, **pairs):
    """A state from variances (n,) and (m,) and any of sin2, cos2, cov, ntk (n, m)."""
    dtype = next(iter(pairs.values())).dtype
    x, y = Features.of(column(var_x)), Features.of(column(var_y))
    return KernelState(x.to(dtype), y.columns.to(dtype), **pairs)


def activate(activation, state):
    """Apply an activation layer: rows first, then pairs."""
    x, y = (Features.of(activation.second_moment(side.var)) for side in (state.x, state.y))
    return activation.propagate(state, x, y, {})


def connect(dense, state, weight_var, bias_var):
    """Apply a weight layer: rows first, then pairs."""
    values = scales(weight_var, bias_var)
    x, y = dense.rows(state.x, values), dense.rows(state.y, values)
    return dense.propagate(state, x, y, values)
