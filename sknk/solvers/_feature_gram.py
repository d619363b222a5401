"""Gram matrices of features: K = Phi Phi', never stored."""

import torch
from torch import Tensor

from sknk._array import as_tensor
from sknk.solvers._gram import GramOperator, Index

__all__ = ["CentredFeatureGram", "FeatureGram"]

_NUMBERS = 2**22  # of differences that are formed at once
_MOST = 0.9  # part of the squared norms that the mean has before it is subtracted


class FeatureGram(GramOperator):
    """The inner products of rows of features.

    Parameters
    ----------
    Phi : Tensor of shape (n, d)
        Features, float32 or float64; kept, not copied.

    Attributes
    ----------
    width : int
        d; blocks of rows are as short as that asks for.

    Raises
    ------
    ValueError
        If they are no such table.
    """

    def __init__(self, Phi: Tensor) -> None:
        if Phi.ndim != 2 or not len(Phi) or not Phi.is_floating_point():
            raise ValueError(
                f"Features of shape {tuple(Phi.shape)} and dtype {Phi.dtype}; expected (n, d), "
                "n > 0, in float32 or float64."
            )
        self.Phi = Phi.detach()
        self.shape, self.width = (len(Phi), len(Phi)), Phi.shape[1]
        self.dtype, self.device = Phi.dtype, Phi.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return Phi[i] Phi[j]'."""
        return self.Phi[i] @ self.Phi[j].mT

    def diag(self) -> Tensor:
        """Return the squared norms, (n,)."""
        # No table of squares beside the features: they may fill the memory.
        return torch.einsum("ij,ij->i", self.Phi, self.Phi)

    def dense(self) -> Tensor:
        """Return a newly computed K."""
        self._check_memory()
        return self.Phi @ self.Phi.mT

    def matmul(self, V: Tensor) -> Tensor:
        """Return Phi (Phi' V); O(n d t)."""
        return self.Phi @ (self.Phi.mT @ as_tensor(V, self.device, self.dtype))

    def centred(self) -> "GramOperator":
        """Return the inner products of features less their mean, where that is most of them."""
        mean = self.Phi.mean(0)
        if float(mean.square().sum()) < _MOST * float(self.diag().mean()):
            return self
        return CentredFeatureGram(self, mean)

    def restrict(self, idx: Index) -> "FeatureGram":
        """Return the operator of the rows `idx`."""
        return FeatureGram(self.Phi[idx])


class CentredFeatureGram(GramOperator):
    """The inner products of features less a mean, which are never formed.

    Distances are those of the features, but come from numbers as small as they are themselves.

    Parameters
    ----------
    features : FeatureGram
        Of n rows.
    mean : Tensor of shape (d,)
        What is subtracted.
    """

    def __init__(self, features: FeatureGram, mean: Tensor) -> None:
        self.features, self.mean = features, mean
        self.shape, self.width = features.shape, features.width
        self.dtype, self.device = features.dtype, features.device

    def block(self, i: Index, j: Index) -> Tensor:
        """Return (Phi[i] - mean) (Phi[j] - mean)', by the features themselves."""
        Phi = self.features.Phi
        right = (Phi[j] - self.mean).mT
        return Phi[i] @ right - self.mean @ right

    def diag(self) -> Tensor:
        """Return the squared norms, (n,), by blocks of rows."""
        blocks = self.features.Phi.split(max(1, _NUMBERS // self.width))
        return torch.cat([(phi - self.mean).square().sum(1) for phi in blocks])

    def dense(self) -> Tensor:
        """Return a newly computed K."""
        self._check_memory()
        return self.block(slice(None), slice(None))

    def restrict(self, idx: Index) -> "CentredFeatureGram":
        """Return the operator of the rows `idx`, the mean as it is."""
        return CentredFeatureGram(self.features.restrict(idx), self.mean)
