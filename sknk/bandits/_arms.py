"""Arms: labels outside, codes inside."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_array

from sknk.bandits._target import Feedback, check_kinds, column

__all__ = ["Arms", "positions"]


def positions(
    labels: np.ndarray, action: np.ndarray, whose: str, what: str = "Row {row} plays arm"
) -> np.ndarray:
    """Return where actions stand among labels.

    Parameters
    ----------
    labels : ndarray of shape (K,)
        In any order.
    action : ndarray of shape (n,)
        Labels, repeated at will.
    whose : str
        End of the message: who does not know a label, and what to do.
    what : str
        Its beginning, before the label; {row} is where it stands.

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
        row = int(unknown[0])
        raise ValueError(f"{what.format(row=row)} {action[row : row + 1].tolist()[0]!r}, {whose}")
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
    Z : ndarray of float64 of shape (n_codes, p) or None
        Features of all, where they have them.
    """

    every: np.ndarray
    code: np.ndarray
    Z: np.ndarray | None = None

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
            check_kinds(declared, "actions")
            labels = column(declared, "actions")
            if not len(labels) or len(np.unique(labels)) < len(labels):
                raise ValueError(f"`actions` is {declared!r}; expected different labels of arms.")
        if labels.dtype == object:  # words, as tables hold them
            labels = np.asarray(labels.tolist())
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

    def named(self, told: Feedback) -> Feedback:
        """Return what was played with its labels, of rewards alone that of the single arm.

        Parameters
        ----------
        told : Feedback
            Of n rounds.

        Returns
        -------
        Feedback

        Raises
        ------
        ValueError
            If no arms are named where there are several.
        """
        if not told.rewards_alone:
            return told
        if self.n_codes > 1:
            raise ValueError(
                f"`y` is 1-D, rewards of a single arm, and there are {self.n_codes}; expected "
                "bandit_target(action, reward), which says who earned them."
            )
        return replace(told, action=self.every.repeat(len(told.reward)))

    def codes_of(self, told: Feedback) -> np.ndarray:
        """Return codes of what was played, (n,); errors as of :meth:`named` and :meth:`codes`."""
        return self.codes(self.named(told).action)

    def with_arm(self, label: Any, features: Any = None) -> "Arms":
        """Return the arms and one more, by its old code if it was there before.

        Parameters
        ----------
        label : label
            Its name.
        features : array-like of shape (p,) or None, default=None
            Its features, where arms have them; an old one may leave them out.

        Returns
        -------
        Arms

        Raises
        ------
        ValueError
            If it is there, or is no label like the others, or comes back with other features.
        """
        new = np.asarray([label])
        kinds = self.every.dtype.kind, new.dtype.kind
        if new.shape != (1,) or (kinds[0] != kinds[1] and not set(kinds) <= set("iu")):
            raise ValueError(
                f"`arm` is {label!r}; expected a label like {self.labels.tolist()}, of their kind."
            )
        if label in self.labels:
            raise ValueError(f"Arm {label!r} is there already; expected a new one.")
        if label not in self.every:
            Z = None if self.Z is None else np.vstack([self.Z, self._feature_row(features)])
            return Arms(np.append(self.every, new), np.append(self.code, self.n_codes), Z)
        code = self.codes(new)
        known = None if self.Z is None or features is None else self.Z[code]
        if known is not None and not np.array_equal(self._feature_row(features), known):
            raise ValueError(
                f"`features` of arm {label!r} are {features!r}; expected {known[0]}, as "
                "before it was removed, since its rounds were learned with them. Give an arm of "
                "other features another label."
            )
        return replace(self, code=np.append(self.code, code))

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
        return replace(self, code=self.code[kept])

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
        try:
            mask, seen = np.asarray(available), f"shape {np.shape(available)}"
        except ValueError:
            mask, seen = np.empty(()), "rows of several lengths"
        if mask.dtype == object and {type(one) for one in mask.ravel().tolist()} == {bool}:
            mask = mask.astype(bool)  # a row of a table
        if mask.shape not in (shape, shape[1:]) if mask.dtype == bool else mask.ndim != 1:
            raise ValueError(
                f"`available` has {seen}; expected a list of labels for all rounds, or a bool "
                f"array of shape {shape}, columns as in `arms_`."
            )
        if mask.dtype != bool:
            mask = np.isin(self.code, self._listed(mask))
        mask = np.broadcast_to(mask, shape)
        empty = np.flatnonzero(~mask.any(axis=1))
        if len(empty):
            raise ValueError(
                f"`available` is empty in row {empty[0]}; expected at least one of "
                f"{self.labels.tolist()}."
            )
        return mask

    def _listed(self, labels: np.ndarray) -> np.ndarray:
        """Return codes of labels that are available."""
        known = f"expected some of {self.labels.tolist()}."
        if not labels.size:
            return np.empty(0, dtype=int)
        listed = positions(self.every, labels, f"which is unknown; {known}", "`available` has arm")
        gone = np.setdiff1d(listed, self.code)
        if len(gone):
            label = self.every[gone[:1]].tolist()[0]
            raise ValueError(f"`available` has arm {label!r}, which was removed; {known}")
        return listed

    def with_features(self, arm_features: Any) -> "Arms":
        """Return the arms with a row of features for each.

        Parameters
        ----------
        arm_features : array-like of shape (K, p)
            In the order of labels.

        Returns
        -------
        Arms

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
        Z = check_array(arm_features, dtype=np.float64, input_name="arm_features")
        if len(Z) != len(self.labels):
            raise ValueError(
                f"`arm_features` has {len(Z)} rows; expected one for each of the "
                f"{len(self.labels)} arms {self.labels.tolist()}."
            )
        return replace(self, Z=Z)

    def _feature_row(self, features: Any) -> np.ndarray:
        """Return the features of one arm, (1, p)."""
        assert self.Z is not None
        if features is None:
            raise ValueError(
                "`features` is None; expected those of the new arm, with encoding='features'."
            )
        row = np.reshape(features, (1, -1))
        row = check_array(row, dtype=np.float64, input_name="features")
        if row.shape[1] != self.Z.shape[1]:
            raise ValueError(
                f"`features` has {row.shape[1]} numbers; expected {self.Z.shape[1]}, as "
                "`arm_features` has."
            )
        return row
