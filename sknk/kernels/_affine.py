"""What weights and biases do to pairs of rows: the step that every weight layer shares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._adjoint import Tilted, reverse_mode
from sknk.kernels._state import Features, KernelState, reusable, safe_sqrt

__all__ = ["Affine", "passed_on"]


@dataclass(frozen=True)
class Affine:
    r"""Weights N(0, w) and biases N(0, b) of infinitely many units.

    .. math::
        \Sigma \leftarrow w\,\Sigma + b, \qquad
        \Theta \leftarrow w\,\Theta + \Sigma_{\text{new}} \text{ if trained}

    (Jacot et al. 2018; Lee et al. 2019, appendix). In the standard parametrization a trained layer
    adds ``fan_in Sigma_old + [1 if biased]`` instead of ``Sigma_new`` (Sohl-Dickstein et al. 2020).

    Parameters
    ----------
    biased : bool
        Whether b > 0; without biases angles pass unchanged.
    trained : bool, default=True
        Whether the layer's own parameters contribute tangents.
    fan_in : int or None, default=None
        Width of the layer before, for the standard parametrization; None is the NTK one.
    """

    biased: bool
    trained: bool = True
    fan_in: int | None = None

    def rows(self, features: Features, values: Mapping[str, Tensor]) -> Features:
        """Return every row's variance, and its tilt towards the bias axis by phi.

        Parameters
        ----------
        features : Features
            Of the layer's inputs.
        values : mapping of str to Tensor
            ``weight_var`` and ``bias_var``, 0-d.

        Returns
        -------
        Features
        """
        w, b = values["weight_var"], values["bias_var"]
        scaled = w * features.var
        if not self.biased:
            return Features.of(scaled)
        var = scaled + b
        cosine = safe_sqrt(scaled / var)  # tan phi = sqrt(b / (w var_old))
        cos_half = ((1.0 + cosine) / 2.0).sqrt()
        sin_half = (b / var).sqrt() / (2.0 * cos_half)
        return Features.of(var, cosine, cos_half, sin_half)

    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Mapping[str, Tensor]
    ) -> KernelState:
        """Return the state after this layer; may overwrite the pairs of `state`.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs, from :meth:`rows`.
        values : mapping of str to Tensor
            ``weight_var`` and ``bias_var``, 0-d, in the dtype of the pairs.

        Returns
        -------
        KernelState
        """
        own = None
        if self.trained and self.fan_in is not None:
            own = state.nngp * self.fan_in + float(self.biased)
        after = replace(self._affine(state, x, y, values), x=x, y=y)
        if self.trained and own is None:
            own = after.nngp if after.cov is None else after.cov.clone()
        return replace(after, ntk=passed_on(state.ntk, own, values["weight_var"]))

    def _affine(
        self, state: KernelState, x: Features, y: Features, values: Mapping[str, Tensor]
    ) -> KernelState:
        if state.cov is not None:
            cov = torch.mul(state.cov, values["weight_var"], out=reusable(state.cov))
            return replace(state, cov=torch.add(cov, values["bias_var"], out=reusable(cov)))
        if not self.biased:
            return state
        assert state.sin2 is not None
        sin2 = _tilted(state.sin2, x, y, -1.0)
        cos2 = None if state.cos2 is None else _tilted(state.cos2, x, y, 1.0)
        return replace(state, sin2=sin2, cos2=cos2)


def passed_on(ntk: Tensor | None, own: Tensor | None, w: Tensor) -> Tensor | None:
    """Return w ntk + own, where either may be missing."""
    if ntk is None:
        return own
    if own is None:
        return torch.mul(ntk, w, out=reusable(ntk))
    return torch.addcmul(own, ntk, w, out=reusable(own))


def _tilted(pairs: Tensor, x: Features, y: Features, sign: float) -> Tensor:
    """Tilt rows by phi: ``sin2 <- cos phi1 cos phi2 sin2 + sin^2((phi1 - phi2)/2)``."""
    # cos2 with phi1 + phi2. Sums of squares: nothing cancels.
    assert x.tilt is not None
    assert y.tilt is not None
    (cos_x, e_x, f_x), (cos_y, e_y, f_y) = x.tilt, y.tilt
    if cos_y.ndim == 2 and len(cos_y) == 1 and reverse_mode(pairs, *x.tilt, *y.tilt):
        return Tilted.apply(pairs, *x.tilt, *y.tilt, sign)
    pairs = torch.mul(pairs, cos_x, out=reusable(pairs))
    pairs = torch.mul(pairs, cos_y, out=reusable(pairs))
    half = f_x * e_y  # (n, m)
    half = torch.addcmul(half, e_x, f_y, value=sign, out=reusable(half))
    return torch.addcmul(pairs, half, half, out=reusable(pairs))
