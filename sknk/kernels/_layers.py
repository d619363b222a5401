"""Weight layers on kernel states; activations are the layers of ``_dual.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sknk.kernels._state import KernelState, reusable, safe_sqrt

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense:
    r"""Fully connected layer of infinite width, weights N(0, w), biases N(0, b).

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

    def propagate(self, state: KernelState, values: Mapping[str, Tensor]) -> KernelState:
        """Return the state after this layer; may overwrite the pairs of `state`.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        values : mapping of str to Tensor
            ``weight_var`` and ``bias_var``, 0-d.

        Returns
        -------
        KernelState
        """
        w, b = values["weight_var"], values["bias_var"]
        own = None
        if self.trained and self.fan_in is not None:
            own = state.nngp * self.fan_in + float(self.biased)
        after = self._affine(state, w, b)
        if self.trained and own is None:
            own = after.nngp if after.cov is None else after.cov.clone()
        return replace(after, ntk=self._tangents(state.ntk, own, after.pair(w)))

    @staticmethod
    def _tangents(ntk: Tensor | None, own: Tensor | None, w: Tensor) -> Tensor | None:
        if ntk is None:
            return own
        if own is None:
            return torch.mul(ntk, w, out=reusable(ntk))
        return torch.addcmul(own, ntk, w, out=reusable(own))

    def _affine(self, state: KernelState, w: Tensor, b: Tensor) -> KernelState:
        if state.cov is not None:
            cov = torch.mul(state.cov, state.pair(w), out=reusable(state.cov))
            cov = torch.add(cov, state.pair(b), out=reusable(cov))
            return replace(state, var_x=w * state.var_x + b, var_y=w * state.var_y + b, cov=cov)
        if not self.biased:
            return replace(state, var_x=w * state.var_x, var_y=w * state.var_y)
        return self._tilt(state, w, b)

    @staticmethod
    def _tilt(state: KernelState, w: Tensor, b: Tensor) -> KernelState:
        """Tilt every row towards the bias axis by phi, tan phi = sqrt(b / (w var))."""
        # sin2 <- cos phi1 cos phi2 sin2 + sin^2((phi1 - phi2)/2), and cos2 with phi1 + phi2:
        # sums of squares, so nothing cancels.
        var_x, cos_x, e_x, f_x = _tilts(state.var_x, w, b)
        var_y, cos_y, e_y, f_y = _tilts(state.var_y, w, b)
        cos_x, cos_y, e_x, e_y, f_x, f_y = map(state.pair, (cos_x, cos_y, e_x, e_y, f_x, f_y))

        def tilted(pairs: Tensor, sign: float) -> Tensor:
            pairs = torch.mul(pairs, cos_x, out=reusable(pairs))
            pairs = torch.mul(pairs, cos_y, out=reusable(pairs))
            half = f_x * e_y  # (n, m)
            half = torch.addcmul(half, e_x, f_y, value=sign, out=reusable(half))
            return torch.addcmul(pairs, half, half, out=reusable(pairs))

        assert state.sin2 is not None
        sin2 = tilted(state.sin2, -1.0)
        cos2 = None if state.cos2 is None else tilted(state.cos2, 1.0)
        return replace(state, var_x=var_x, var_y=var_y, sin2=sin2, cos2=cos2)


def _tilts(var: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the new variance, cos phi, cos(phi/2) and sin(phi/2) of each row."""
    scaled = w * var
    after = scaled + b
    cosine = safe_sqrt(scaled / after)
    cos_half = ((1.0 + cosine) / 2.0).sqrt()
    sin_half = (b / after).sqrt() / (2.0 * cos_half)
    return after, cosine, cos_half, sin_half
