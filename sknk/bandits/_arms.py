"""Arms: labels outside, codes inside."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array, column_or_1d

__all__ = ["Arms", "positions"]


def positions(labels: np.ndarray, action: np.ndarray, whose: str) -> np.ndarray:
    """Return where actions stand among labels.

    Parameters
    ----------
    labels : ndarray of shape (K,)
        In any order.
    action : ndarray of shape (n,)
        Labels, repeated at will.
    whose : str
        End of the message: who does not know a label, and what to do.

    Returns
    -------
    ndarray of int of shape (n,)

    Raises
    ------
    ValueError
        If one is no label.
    """
    order = np.argsort(labels)
    try:
        place = np.searchsorted(labels, action, sorter=order)
    except TypeError:  # labels of kinds that have no order between them
        place = np.zeros(len(action), dtype=int)
    found = order[np.minimum(place, len(order) - 1)]
    unknown = np.flatnonzero(labels[found] != action)
    if len(unknown):
        raise ValueError(f"Row {unknown[0]} plays arm {action[unknown[0]]!r}, {whose}")
    return found


@dataclass(frozen=True)
class Arms:
    """The arms that are offered, and codes of all that ever were.

    Attributes
    ----------
    every : ndarray of shape (n_codes,)
        Labels of all arms that ever were, by code.
    code : ndarray of int of shape (K,)
        Codes of those that are offered.
    """

    every: np.ndarray
    code: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Labels of arms that are offered, (K,)."""
        return self.every[self.code]

    @property
    def n_codes(self) -> int:
        """How many arms ever were."""
        return len(self.every)

    @classmethod
    def of(cls, action: np.ndarray, declared: Any) -> "Arms":
        """Return the arms that are declared, else those that were played.

        Parameters
        ----------
        action : ndarray of shape (n,)
            Labels.
        declared : array-like of shape (K,) or None
            All there are.

        Returns
        -------
        Arms

        Raises
        ------
        ValueError
            If one is declared twice, or none.
        """
        if declared is None:
            labels = np.unique(action)
        else:
            labels = column_or_1d(np.asarray(declared))
            _check_kinds(declared)
            if not len(labels) or len(np.unique(labels)) < len(labels):
                raise ValueError(f"`actions` is {declared!r}; expected different labels of arms.")
        return cls(labels, np.arange(len(labels)))

    def codes(self, action: np.ndarray) -> np.ndarray:
        """Return codes of labels.

        Parameters
        ----------
        action : ndarray of shape (n,)
            Labels.

        Returns
        -------
        ndarray of int of shape (n,)

        Raises
        ------
        ValueError
            If one never was.
        """
        whose = (
            f"which is unknown; expected one of {self.labels.tolist()}. Offer it by `add_arm`, or "
            "name all in `actions`."
        )
        return positions(self.every, action, whose)

    def with_arm(self, label: Any) -> "Arms":
        """Return the arms and one more, by its old code if it was there before.

        Parameters
        ----------
        label : label
            Its name.

        Returns
        -------
        Arms

        Raises
        ------
        ValueError
            If it is there, or is no label like the others.
        """
        new = np.asarray([label])
        kinds = self.every.dtype.kind, new.dtype.kind
        if new.shape != (1,) or (kinds[0] != kinds[1] and not set(kinds) <= set("iu")):
            raise ValueError(
                f"`arm` is {label!r}; expected a label like {self.labels.tolist()}, of their kind."
            )
        if label in self.labels:
            raise ValueError(f"Arm {label!r} is there already; expected a new one.")
        if label in self.every:
            return Arms(self.every, np.append(self.code, self.codes(new)))
        return Arms(np.append(self.every, new), np.append(self.code, self.n_codes))

    def without_arm(self, label: Any) -> "Arms":
        """Return the arms but one.

        Parameters
        ----------
        label : label
            Its name.

        Returns
        -------
        Arms

        Raises
        ------
        ValueError
            If it is not there, or is the last.
        """
        kept = self.labels != label
        if np.all(kept):
            raise ValueError(f"Arm {label!r} is unknown; expected one of {self.labels.tolist()}.")
        if not np.any(kept):
            raise ValueError(f"Arm {label!r} is the last; expected at least one to stay.")
        return Arms(self.every, self.code[kept])

    def offered(self, available: Any, n: int) -> np.ndarray:
        """Return which arms may be chosen in each of n rounds.

        Parameters
        ----------
        available : None, array-like of labels or bool array of shape (n, K)
            As passed.
        n : int
            Rounds.

        Returns
        -------
        ndarray of bool of shape (n, K)

        Raises
        ------
        ValueError
            For another shape, an unknown arm, or a round without any.
        """
        shape = (n, len(self.labels))
        if available is None:
            return np.ones(shape, dtype=bool)
        mask = np.asarray(available)
        if mask.dtype != bool:
            listed = self.codes(column_or_1d(mask)) if mask.size else np.empty(0, dtype=int)
            gone = np.setdiff1d(listed, self.code)
            if len(gone):
                raise ValueError(
                    f"`available` has arm {self.every[gone[0]]!r}, which was removed; expected "
                    f"some of {self.labels.tolist()}."
                )
            mask = np.isin(self.code, listed)
        elif mask.shape not in (shape, shape[1:]):
            raise ValueError(f"`available` has shape {mask.shape}; expected labels, or {shape}.")
        mask = np.broadcast_to(mask, shape)
        empty = np.flatnonzero(~mask.any(axis=1))
        if len(empty):
            raise ValueError(
                f"`available` is empty in row {empty[0]}; expected at least one of "
                f"{self.labels.tolist()}."
            )
        return mask

    def features(self, arm_features: Any) -> np.ndarray:
        """Return a row of features for every arm.

        Parameters
        ----------
        arm_features : array-like of shape (K, p)
            In the order of labels.

        Returns
        -------
        ndarray of float64 of shape (K, p)

        Raises
        ------
        ValueError
            If there are none, or not as many as arms.
        """
        if arm_features is None:
            raise ValueError(
                "`arm_features` is None; expected a row of features for every arm, with "
                "encoding='features'."
            )
        found = check_array(arm_features, dtype=np.float64, input_name="arm_features")
        if len(found) != len(self.labels):
            raise ValueError(
                f"`arm_features` has {len(found)} rows; expected one for each of the "
                f"{len(self.labels)} arms {self.labels.tolist()}."
            )
        return found

    def feature_row(self, features: Any) -> np.ndarray:
        """Return the features of one arm, (1, p).

        Parameters
        ----------
        features : array-like of shape (p,)
            As passed.

        Returns
        -------
        ndarray of float64 of shape (1, p)

        Raises
        ------
        ValueError
            If there are none.
        """
        if features is None:
            raise ValueError(
                "`features` is None; expected those of the new arm, with encoding='features'."
            )
        return check_array(np.reshape(features, (1, -1)), dtype=np.float64, input_name="features")


def _check_kinds(declared: Any) -> None:
    """Refuse words among numbers, which NumPy would make words of."""
    words = {isinstance(label, str) for label in declared}
    if len(words) > 1:
        raise ValueError(f"`actions` is {declared!r}; expected labels of one kind.")
