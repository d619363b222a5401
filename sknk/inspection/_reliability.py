"""Probabilities against frequencies, by bins: reliability curves and their error."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sknk.inspection._checks import as_array, check_choice, check_count, check_vector, row_weights

__all__ = ["Forecast", "Reliability", "check_forecast", "expected_calibration_error"]

STRATEGIES = ("uniform", "quantile")
# Rows of rounded or float32 probabilities still sum to one within this.
_SUM_ATOL = 1e-3


@dataclass(frozen=True)
class Reliability:
    """One reliability curve over its bins that hold rows.

    Parameters
    ----------
    prob_true, prob_pred : ndarray of shape (b,)
        Observed frequency and mean probability in a bin.
    rows : ndarray of shape (b,)
        Effective number of rows in a bin, (sum w)^2 / sum w^2.
    error : float
        Expected calibration error.
    """

    prob_true: np.ndarray
    prob_pred: np.ndarray
    rows: np.ndarray
    error: float


@dataclass(frozen=True)
class Forecast:
    """Checked labels with probabilities of every class.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Columns of the true classes.
    prob : ndarray of shape (n, c)
        Probabilities.
    classes : list
        c labels.
    weights : ndarray of shape (n,)
        Positive sample weights.
    """

    codes: np.ndarray
    prob: np.ndarray
    classes: list[Any]
    weights: np.ndarray

    def column(self, label: Any) -> int:
        """Return the column of a class.

        Parameters
        ----------
        label : object
            A class label.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If there is no such class.
        """
        if label not in self.classes:
            raise ValueError(f"`pos_label` is {label!r}; expected one of {self.classes}.")
        return self.classes.index(label)

    def top(self, n_bins: int, strategy: str) -> Reliability:
        """Return how often the most probable class is right, given its probability."""
        found = self.prob.argmax(axis=1)
        chance = self.prob[np.arange(len(found)), found]
        return reliability(found == self.codes, chance, self.weights, n_bins, strategy)

    def of(self, column: int, n_bins: int, strategy: str) -> Reliability:
        """Return how often a class occurs, given its probability."""
        hits = self.codes == column
        return reliability(hits, self.prob[:, column], self.weights, n_bins, strategy)


def reliability(
    hits: np.ndarray, chance: np.ndarray, weights: np.ndarray, n_bins: int, strategy: str
) -> Reliability:
    """Compare frequencies with probabilities, bin by bin.

    Parameters
    ----------
    hits : ndarray of shape (n,)
        Whether the event happened.
    chance : ndarray of shape (n,)
        Its probability.
    weights : ndarray of shape (n,)
        Positive sample weights.
    n_bins : int
        Bins (low, high] of the unit interval.
    strategy : {"uniform", "quantile"}
        Bins of equal width, or of equal weight; equal probabilities share a bin.

    Returns
    -------
    Reliability
    """
    fractions = np.arange(1, n_bins) / n_bins
    edges = fractions if strategy == "uniform" else _quantiles(chance, weights, fractions)
    bins = np.searchsorted(edges, chance, side="left")
    total, squares, happened, expected = (
        np.bincount(bins, values, minlength=n_bins)
        for values in (weights, weights**2, weights * hits, weights * chance)
    )
    used = total > 0
    total, squares = total[used], squares[used]
    prob_true, prob_pred = happened[used] / total, expected[used] / total
    error = float(total @ np.abs(prob_true - prob_pred) / total.sum())
    return Reliability(prob_true, prob_pred, total**2 / squares, error)


def _quantiles(values: np.ndarray, weights: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Return the smallest values with at least those fractions of the weight up to them."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    # A rounding error of the sum must not move an edge to the next row.
    position = np.searchsorted(below, fractions * below[-1] * (1.0 - 1e-12))
    return values[order][np.minimum(position, len(values) - 1)]


def check_forecast(y_true: Any, y_prob: Any, classes: Any, sample_weight: Any) -> Forecast:
    """Check labels and probabilities.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, c), or (n,) for the second of two classes
        Probabilities.
    classes : array-like of shape (c,) or None
        Labels of the columns; None is the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,) or None
        Rows of weight zero are left out.

    Returns
    -------
    Forecast

    Raises
    ------
    ValueError
        If shapes do not fit, a label is unknown, or rows are no probabilities.
    """
    labels = as_array(y_true)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"`y_true` has shape {labels.shape}; expected one label a row.")
    names = np.unique(labels) if classes is None else as_array(classes)
    prob = _check_probabilities(y_prob, len(labels))
    known = names.tolist()
    if len(known) != prob.shape[1] or len(set(known)) != len(known):
        source = "`y_true` holds" if classes is None else "`classes` is"
        raise ValueError(
            f"`y_prob` has a probability for {prob.shape[1]} classes but {source} {known}; "
            "expected a distinct label for each. Pass `classes`, the fitted `classes_`."
        )
    number = {label: column for column, label in enumerate(known)}
    codes = np.array([number.get(label, -1) for label in labels.tolist()])
    if (codes < 0).any():
        row = int(np.argmin(codes))
        raise ValueError(
            f"`y_true` is {labels.tolist()[row]!r} at row {row}; expected one of the classes "
            f"{known}. Name all of them in `classes`."
        )
    weights = row_weights(sample_weight, labels)
    keep = weights > 0
    return Forecast(codes[keep], prob[keep], known, weights[keep])


def _check_probabilities(y_prob: Any, rows: int) -> np.ndarray:
    """Return probabilities (n, c)."""
    prob = as_array(y_prob)
    if prob.ndim == 1 or (prob.ndim == 2 and prob.shape[1] == 1):
        second = check_vector(prob, "y_prob")
        prob = np.column_stack([1.0 - second, second])
    if prob.ndim != 2 or len(prob) != rows:
        raise ValueError(
            f"`y_prob` has shape {prob.shape}; expected ({rows}, n_classes), or ({rows},) with the "
            "probability of the second of two classes."
        )
    prob = prob.astype(np.float64)
    bad = ~((prob >= 0) & (prob <= 1)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"`y_prob` is {prob[row].tolist()} at row {row}; expected probabilities between 0 and "
            "1. Decision values have to be calibrated first."
        )
    gap = np.abs(prob.sum(axis=1) - 1.0)
    if gap.max() > _SUM_ATOL:
        row = int(np.argmax(gap))
        raise ValueError(
            f"`y_prob` sums to {prob[row].sum():.6g} at row {row}; expected 1. Divide rows by "
            "their sums, and pass all classes."
        )
    return prob


def expected_calibration_error(
    y_true: Any,
    y_prob: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    classes: Any = None,
    pos_label: Any = None,
    sample_weight: Any = None,
) -> float:
    r"""Return the mean gap between probabilities and frequencies.

    .. math:: \text{ECE} = \sum_b \frac{n_b}{n}\, |\text{acc}_b - \text{conf}_b|

    Rows are sorted into bins b by the probability of the class that is most probable;
    :math:`\text{conf}_b` is the mean of those probabilities, :math:`\text{acc}_b` how often that
    class was right (Guo et al. 2017, eq. 3, https://doi.org/10.48550/arXiv.1706.04599). With
    `pos_label` it is the probability and frequency of that class instead. The estimate grows
    with the number of bins, even for a calibrated model: compare at one `n_bins`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, c), or (n,) for the second of two classes
        Probabilities; rows sum to one.
    n_bins : int, default=15
        Bins of the unit interval.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equally many rows.
    classes : array-like of shape (c,), default=None
        Labels of the columns; None is the sorted labels of `y_true`.
    pos_label : object, default=None
        The class to judge; None judges the most probable one of each row.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        Between 0 and 1, dimensionless; 0 for a calibrated model with infinitely many rows.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is unknown, or rows are no probabilities.

    See Also
    --------
    CalibrationDisplay : The picture behind the number.

    Examples
    --------
    >>> from sknk.inspection import expected_calibration_error
    >>> error = expected_calibration_error([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.25])
    >>> round(error, 3)  # three quarters right, as announced
    0.0
    """
    n_bins = check_count(n_bins, "n_bins", 1)
    check_choice(strategy, "strategy", STRATEGIES)
    forecast = check_forecast(y_true, y_prob, classes, sample_weight)
    if pos_label is None:
        return forecast.top(n_bins, strategy).error
    return forecast.of(forecast.column(pos_label), n_bins, strategy).error
