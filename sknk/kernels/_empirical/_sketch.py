"""Random projections of gradients, seeded by place: no implementation sees other signs.

z_k(x) = sum_q s_qk sum_p S_pk G_q(x)_p / sqrt(k): its inner products have the trace kernel as mean,
and the error of k of them falls as k^-1/2 (Johnson and Lindenstrauss 1984; Achlioptas 2003; for
tangent kernels Engel et al. 2023).
"""

from collections.abc import Callable, Iterator
from typing import Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from sknk.kernels._empirical._gradients import Dense, Gradient, Lookup, Outer, RowGradients
from sknk.kernels._empirical._network import Network
from sknk.kernels._empirical._parameters import lead
from sknk.kernels._empirical._products import push_forward

__all__ = ["SKETCHES", "Gaussian", "Rademacher", "Sketch", "Sparse"]

_BLOCK = 2**11  # entries of a parameter whose gradients are formed together
_COLUMNS = 32  # columns that are drawn together, and pushed forward together
_NONZEROS = 4  # of a sparse sketch's row


def _generator(seed: int, name: str, *place: int) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(name.encode()), *place])


def _signs(seed: int, name: str, shape: tuple[int, int], *place: int) -> np.ndarray:
    """Return -1 and 1, (rows, columns), int8."""
    count = shape[0] * shape[1]
    drawn = np.frombuffer(_generator(seed, name, *place).bytes(-(-count // 8)), dtype=np.uint8)
    bits = np.unpackbits(drawn, count=count).astype(np.int8)
    return (2 * bits - 1).reshape(shape)


def _output_signs(seed: int, q: int, width: int, like: Tensor) -> Tensor:
    """Return the signs s_qk that keep outputs apart, (Q, k); one output needs none."""
    if q == 1:
        return like.new_ones((1, width))
    return torch.from_numpy(_signs(seed, "", (q, width))).to(like)


def _blocks(leaf: Tensor) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, entries of each) along a parameter's first axis."""
    length = lead(leaf)
    each = leaf.numel() // length
    step = max(1, _BLOCK // each)
    for start in range(0, length, step):
        yield start, min(start + step, length), each


class Sketch(Protocol):
    """A random matrix S (P, k) that is never whole.

    Attributes
    ----------
    forms_gradients : bool
        Whether gradients of blocks of parameters are formed, row by row.
    """

    forms_gradients: bool

    def gradients(self, gradients: RowGradients, network: Network) -> Tensor:
        """Return Z (n, k) from gradients, block of parameters by block."""


class _Blockwise:
    """Sums over blocks of parameters."""

    forms_gradients = True

    def __init__(self, width: int, seed: int) -> None:
        self.width, self.seed = width, seed

    def gradients(self, gradients: RowGradients, network: Network) -> Tensor:
        """Return Z (n, k) from gradients; O(n Q P) beyond the products of one block.

        Parameters
        ----------
        gradients : RowGradients
            One part for each parameter.
        network : Network
            Whose parameters.

        Returns
        -------
        Tensor of shape (n, k)
        """
        total = None
        for (name,), part in zip(gradients.names, gradients.parts, strict=True):
            for index, block in enumerate(_blocks(network.leaves[name])):
                found = self._block(part, name, index, block)
                total = found if total is None else total + found
        assert total is not None
        return (total * _output_signs(self.seed, len(total), self.width, total)[:, None]).sum(0)

    def _block(self, part: Gradient, name: str, index: int, block: tuple[int, int, int]) -> Tensor:
        raise NotImplementedError


class Rademacher(_Blockwise):
    """Independent signs: S_pk = 1 or -1, each with probability one half."""

    def _block(self, part: Gradient, name: str, index: int, block: tuple[int, int, int]) -> Tensor:
        start, stop, each = block
        G = part.block(start, stop).flatten(2)  # (Q, n, entries)
        drawn = [
            self._drawn(name, index, (stop - start) * each, first)
            for first in range(0, self.width, _COLUMNS)
        ]
        return G @ torch.cat(drawn, 1).to(G) / self.width**0.5

    def _drawn(self, name: str, index: int, entries: int, first: int) -> Tensor:
        width = min(_COLUMNS, self.width - first)
        return torch.from_numpy(_signs(self.seed, name, (entries, width), index, first))

    def products(self, network: Network, x: Tensor, W: Tensor) -> Tensor:
        """Return Z (n, k) by forward mode: column k is J(x) s_k, weighed by outputs.

        O(n k P) time whatever Q is, memory for 32 columns of signs: no gradient is formed.

        Parameters
        ----------
        network : Network
            The function.
        x : Tensor of shape (n, d)
            Rows.
        W : Tensor of shape (Q, n, O)
            Combinations of outputs.

        Returns
        -------
        Tensor of shape (n, k)
        """
        signs = _output_signs(self.seed, len(W), self.width, W)
        columns = []
        for first in range(0, self.width, _COLUMNS):
            directions = {
                name: self._direction(name, leaf, first) for name, leaf in network.leaves.items()
            }
            moved = vmap(lambda v: push_forward(network, x, v))(directions)  # (columns, n, O)
            weights = signs[:, first : first + _COLUMNS]
            columns.append(torch.einsum("jno,qno,qj->nj", moved, W, weights))
        return torch.cat(columns, 1) / self.width**0.5

    def _direction(self, name: str, leaf: Tensor, first: int) -> Tensor:
        """Return some columns of one parameter's signs, (columns, *shape)."""
        blocks = [
            self._drawn(name, index, (stop - start) * each, first)
            for index, (start, stop, each) in enumerate(_blocks(leaf))
        ]
        return torch.cat(blocks).to(leaf).T.reshape(-1, *leaf.shape)


class Sparse(_Blockwise):
    """Four signs a parameter, in random columns (Kane and Nelson 2014): O(n Q P), whatever k is."""

    def _block(self, part: Gradient, name: str, index: int, block: tuple[int, int, int]) -> Tensor:
        start, stop, each = block
        G = part.block(start, stop).flatten(2)  # (Q, n, entries)
        entries = (stop - start) * each
        S = self._drawn(name, index, entries, G)
        found = torch.sparse.mm(S, G.flatten(0, 1).mT.contiguous())  # (k, Q n)
        return found.mT.unflatten(0, G.shape[:2])

    def _drawn(self, name: str, index: int, entries: int, like: Tensor) -> Tensor:
        """Return S', (k, entries), with four numbers in every column."""
        columns = _generator(self.seed, name, index).integers(self.width, size=_NONZEROS * entries)
        signs = _signs(self.seed, name, (_NONZEROS, entries), index, 1)
        rows = np.tile(np.arange(entries), _NONZEROS)
        return torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([columns, rows])).to(like.device),
            torch.from_numpy(signs.reshape(-1) / _NONZEROS**0.5).to(like),
            (self.width, entries),
            check_invariants=False,
        )


class Gaussian:
    r"""Products of Gaussian sketches: O(n Q k width) on factors of gradients, which stay factors.

    With A and B of k columns N(0, 1) for the two axes of a weight, and its gradient G a sum of
    products left right',

    .. math:: k^{-1/2} \operatorname{diag}(A^\top G B)
        = k^{-1/2} \sum_t (A^\top \text{left}_t) \circ (B^\top \text{right}_t)

    has the inner products of gradients as mean, and sketches of parameters add up (Holzmueller,
    Zaverkin, Kaestner and Steinwart 2023, section 4.2).
    """

    forms_gradients = False

    def __init__(self, width: int, seed: int) -> None:
        self.width, self.seed = width, seed

    def gradients(self, gradients: RowGradients, network: Network) -> Tensor:
        """Return Z (n, k) from gradients, parameter by parameter.

        Parameters
        ----------
        gradients : RowGradients
            One part for each parameter.
        network : Network
            Ignored.

        Returns
        -------
        Tensor of shape (n, k)
        """
        parts = zip(gradients.names, gradients.parts, strict=True)
        total = torch.stack([self._part(part, name) for (name,), part in parts]).sum(0)
        signs = _output_signs(self.seed, len(total), self.width, total)
        return (total * signs[:, None]).sum(0) / self.width**0.5

    def _part(self, part: Gradient, name: str) -> Tensor:
        """Return the sketch of one parameter's gradients, (Q, n, k)."""
        if isinstance(part, Dense):
            lead, rest = part.values.shape[2:]
            A, B = self._drawn(name, lead, 0, part.values), self._drawn(name, rest, 1, part.values)
            return ((part.values @ B) * A).sum(2)
        if isinstance(part, Lookup):
            left = part.left @ self._drawn(name, part.left.shape[-1], 1, part.left)  # (Q, n, T, k)
            A = self._drawn(name, int(part.codes.max()) + 1, 0, left)
            return (left * A[part.codes]).sum(2)
        assert isinstance(part, Outer)
        left = part.left @ self._drawn(name, part.left.shape[-1], 0, part.left)
        right = part.right.to(left) @ self._drawn(name, part.right.shape[-1], 1, left)
        return (left * right).sum(2)

    def _drawn(self, name: str, rows: int, axis: int, like: Tensor) -> Tensor:
        """Return numbers N(0, 1), (rows, k); the first rows of more are the same."""
        drawn = _generator(self.seed, name, axis).standard_normal((rows, self.width))
        return torch.from_numpy(drawn).to(like)


SKETCHES: dict[str, Callable[[int, int], Sketch]] = {
    "rademacher": Rademacher,
    "sparse": Sparse,
    "gaussian": Gaussian,
}
