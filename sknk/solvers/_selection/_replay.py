"""Scores of all rows before each of a batch's choices, for those who want to see them."""

from collections.abc import Iterator

from torch import Tensor

from sknk.solvers._gram import GramOperator
from sknk.solvers._selection._cells import Cells
from sknk.solvers._selection._frank_wolfe import FrankWolfe
from sknk.solvers._selection._reduction import reductions_of
from sknk.solvers._selection._residual import posterior_gram

__all__ = ["distances_before", "frank_wolfe_before", "reductions_before", "variances_before"]


def variances_before(
    gram: GramOperator,
    chosen: Tensor,
    *,
    given: Tensor,
    noise_variance: float,
    bonus: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the predictive variances (n,) that :func:`max_det` saw before each choice.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    given : LongTensor of shape (t,)
        Rows that were observed before.
    noise_variance : float
        s2, units of K.
    bonus : Tensor of shape (n,) or None
        As of :func:`max_det`.

    Yields
    ------
    Tensor of shape (n,)
    """
    residual = posterior_gram(gram, given, noise_variance)
    more = noise_variance if bonus is None else noise_variance + bonus
    for row in chosen:
        variances = residual.diag() + more
        yield variances
        residual.condition(row[None], variances[row].sqrt()[None, None])


def distances_before(gram: GramOperator, chosen: Tensor, *, given: Tensor) -> Iterator[Tensor]:
    """Yield the squared distances (n,) to the nearest centre before each choice.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    given : LongTensor of shape (t,)
        Centres from the start; k(x, x) is yielded while there is none.

    Yields
    ------
    Tensor of shape (n,)
    """
    cells = Cells(gram, given)
    for row in chosen:
        yield cells.squared.clone() if len(cells.centres) else gram.diag()
        cells.add(row)


def reductions_before(
    gram: GramOperator,
    chosen: Tensor,
    *,
    given: Tensor,
    noise_variance: float,
    judged: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield by how much each row (n,) would lower the summed variance before each choice.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    chosen : LongTensor of shape (b,)
        In the order of choice.
    given : LongTensor of shape (t,)
        Rows that were observed before.
    noise_variance : float
        s2, units of K.
    judged : LongTensor of shape (J,) or None
        Rows whose variances count; None is all n.

    Yields
    ------
    Tensor of shape (n,)
    """
    state = reductions_of(gram, given, noise_variance, judged)
    for row in chosen:
        yield state.scores()
        state.observe(row)


def frank_wolfe_before(gram: GramOperator, chosen: Tensor) -> Iterator[Tensor]:
    """Yield the scores (n,) of :func:`frank_wolfe` before each choice.

    Parameters
    ----------
    gram : GramOperator
        K of all n rows.
    chosen : LongTensor of shape (b,)
        In the order of choice.

    Yields
    ------
    Tensor of shape (n,)
    """
    state = FrankWolfe(gram)
    for row in chosen:
        yield state.scores()
        state.step(row, gram.rows(row[None]).squeeze(0))
