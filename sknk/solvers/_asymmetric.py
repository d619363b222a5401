"""Least-squares support vector machines of kernels that are not symmetric."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AsymmetricSVM", "asymmetric_svm"]

# Singular values of H this near 1/gamma, in relative units of rounding, leave no digits.
_SINGULAR = 1e3


@dataclass(frozen=True)
class AsymmetricSVM:
    """Dual solution of two classes for a kernel with two sides.

    Attributes
    ----------
    alpha, beta : Tensor of shape (n,)
        Duals of training rows as first and as second arguments.
    y : Tensor of shape (n,)
        -1 and 1.
    """

    alpha: Tensor
    beta: Tensor
    y: Tensor

    def decision(self, K_from: Tensor, K_to: Tensor, mix: float = 0.5) -> Tensor:
        r"""Return decision values, mix K(x_i, x)' (alpha y) + (1 - mix) K(x, x_i) (beta y).

        Parameters
        ----------
        K_from : Tensor of shape (n, m)
            K(x_i, x), training rows first.
        K_to : Tensor of shape (m, n)
            K(x, x_i), training rows second.
        mix : float, default=0.5
            Weight of the first side, 0 to 1.

        Returns
        -------
        Tensor of shape (m,)
        """
        return mix * K_from.mT @ (self.alpha * self.y) + (1.0 - mix) * K_to @ (self.beta * self.y)


def asymmetric_svm(K: Tensor, y: Tensor, gamma: float = 1.0) -> AsymmetricSVM:
    r"""Solve the least-squares SVM of an asymmetric kernel (He et al. 2023, eq. 13).

    .. math::
        \begin{pmatrix} I/\gamma & H \\ H^\top & I/\gamma \end{pmatrix}
        \begin{pmatrix} \alpha \\ \beta \end{pmatrix} = \mathbf 1, \qquad H_{ij} = y_i K_{ij} y_j

    which parts into pairs along the singular vectors of H. O(n^3) time, 24 n^2 bytes.

    Parameters
    ----------
    K : Tensor of shape (n, n)
        K(x_i, x_j); need not be symmetric.
    y : Tensor of shape (n,)
        -1 and 1.
    gamma : float, default=1.0
        Weight of the errors, in inverse units of K.

    Returns
    -------
    AsymmetricSVM

    Raises
    ------
    ValueError
        If K is not square, y is no vector of -1 and 1, `gamma` is not positive, or the system is
        singular.

    Examples
    --------
    >>> import torch
    >>> from sknk.solvers import asymmetric_svm
    >>> K, y = torch.tensor([[2.0, 1.0], [0.0, 2.0]]), torch.tensor([1.0, -1.0])
    >>> model = asymmetric_svm(K, y, gamma=4.0)
    >>> model.decision(K, K).sign()
    tensor([ 1., -1.])
    """
    n = len(y)
    if y.ndim != 1 or n == 0:
        raise ValueError(f"`y` has shape {tuple(y.shape)}; expected (n,), one label a row.")
    if tuple(K.shape) != (n, n):
        raise ValueError(f"`K` has shape {tuple(K.shape)} for {n} labels; expected ({n}, {n}).")
    if not bool(K.isfinite().all()):
        raise ValueError("`K` is not finite; expected the Gram matrix of valid rows.")
    if not bool(((y == 1) | (y == -1)).all()):
        raise ValueError(f"`y` has {y[(y != 1) & (y != -1)][0].item()}; expected -1 and 1 only.")
    if not gamma > 0:
        raise ValueError(f"`gamma` is {gamma!r}; expected a positive number.")
    y = y.to(K)
    U, s, Vt = torch.linalg.svd(y[:, None] * K * y)
    a, b = U.mT.sum(1), Vt.sum(1)
    # Each pair: a_k / gamma + s_k b_k = (U'1)_k and s_k a_k + b_k / gamma = (V'1)_k.
    determinant = gamma**-2 - s**2
    nearest = (1.0 - s * gamma).abs().min()
    if nearest < _SINGULAR * torch.finfo(K.dtype).eps:
        raise ValueError(
            f"The system is singular at `gamma`={gamma:.6g}, the inverse of a singular value of "
            "the kernel; choose another."
        )
    alpha = U @ ((a / gamma - s * b) / determinant)
    beta = Vt.mT @ ((b / gamma - s * a) / determinant)
    return AsymmetricSVM(alpha, beta, y)
