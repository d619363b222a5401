"""A table of numbers and categories, all the way into an estimator."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone, is_regressor
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from sknk.preprocessing._categories import LevelEncoder
from sknk.preprocessing._clip import SmoothClip
from sknk.preprocessing._columns import ColumnsOf, check_categorical_features
from sknk.preprocessing._scale import NormalScores, SpreadScaler
from sknk.preprocessing._target import SkewTransformer

__all__ = ["tabular_pipeline"]

_SCALERS = {
    "robust": SpreadScaler(robust=True),
    "standard": SpreadScaler(robust=False),
    "quantile": NormalScores(),
}
_TARGETS = {
    "auto": SkewTransformer(),
    "yeo-johnson": SkewTransformer(threshold=0.0),
    "quantile": NormalScores(),
}


def tabular_pipeline(
    estimator: Any,
    *,
    categorical_features: Any = "from_dtype",
    max_one_hot: int = 10,
    missing_indicators: bool = True,
    scaling: str = "robust",
    clip: float | None = 5.0,
    target_transform: Any = None,
) -> Pipeline:
    r"""Put before an estimator what a table needs: categories, missing values, scales, outliers.

    A kernel of inner products sees columns as they are, so all must be finite numbers of one scale.
    The answer is an ordinary ``Pipeline`` of four steps:

    ``columns``
        A ``ColumnTransformer``. Numbers: the median for missing values, and an indicator of them.
        Categories of at most `max_one_hot` levels: one 0/1 column a level, the missing one
        included; zeros for levels unseen in ``fit``. Of more levels: one column of positions in
        sorted order, -1 for missing and unseen levels.
    ``scale``
        Every column of numbers to location 0 and about unit spread; what has two values, such as
        levels and indicators, to 0 and 1; what is constant to 0.
    ``clip``
        c tanh(x / c), see :class:`SmoothClip`.
    ``estimator``
        The estimator, inside a ``TransformedTargetRegressor`` if the target is transformed.

    Everything that depends on data is decided in ``fit``, so inside the folds of a
    cross-validation: which columns are categories, which have few levels, which have missing
    values. O(n d log n) time for n rows of d columns.

    Parameters
    ----------
    estimator : estimator
        The last step, of sknk, of scikit-learn, or of anyone.
    categorical_features : "from_dtype", None or list, default="from_dtype"
        Names, indices or one boolean a column. "from_dtype" takes the columns of pandas and polars
        frames that hold categories, enums, text, objects or booleans; of an array it takes none, as
        does None.
    max_one_hot : int, default=10
        Levels up to which a category gets a column for each, the missing one not counted.
    missing_indicators : bool, default=True
        Add a column for every column of numbers in which ``fit`` sees missing values.
    scaling : {"robust", "standard", "quantile"}, default="robust"
        Median and interquartile range (the standard deviation where quartiles coincide); mean and
        standard deviation; or normal scores of ranks.
    clip : float or None, default=5.0
        The bound c, in units of scaled columns; None leaves outliers as they are.
    target_transform : None, "auto", "yeo-johnson", "quantile" or transformer, default=None
        What the regressor is trained on. "auto" is Yeo-Johnson's power if the skewness of the
        training targets exceeds 1 in absolute value and the power reduces it, "yeo-johnson" if it
        reduces it at all; "quantile" is normal scores of ranks. All three answer with numbers of
        the training range. They make absolute errors smaller and squared errors larger, for
        predictions are medians then, not means; and methods beside ``predict``, such as
        ``predict_interval``, are out of reach.

    Returns
    -------
    Pipeline
        Not fitted; ``pipeline[:-1]`` is the preprocessing alone.

    Raises
    ------
    TypeError
        If `estimator` has no ``fit``, or is a class.
    ValueError
        If a parameter has another value than stated, or a target transform meets an estimator that
        is no regressor. ``fit`` raises for columns that do not exist, and a TypeError for columns
        that are neither numbers nor categories.

    Examples
    --------
    >>> import numpy as np
    >>> from sknk import NTKRidgeClassifier
    >>> from sknk.preprocessing import tabular_pipeline
    >>> X = np.array([[1.0, 0], [2.0, 1], [np.nan, 2], [900.0, 1]])
    >>> model = tabular_pipeline(NTKRidgeClassifier(), categorical_features=[1])
    >>> model = model.fit(X, ["a", "a", "b", "b"])
    >>> print(*model[:-1].get_feature_names_out())
    number__x0 number__missingindicator_x0 one_hot__x1_0.0 one_hot__x1_1.0 one_hot__x1_2.0
    """
    features = check_categorical_features(categorical_features)
    _check_estimator(estimator, target_transform)
    _check_options(max_one_hot, missing_indicators, scaling, clip)
    return Pipeline(
        [
            ("columns", _columns(features, max_one_hot, missing_indicators)),
            ("scale", clone(_SCALERS[scaling])),
            ("clip", "passthrough" if clip is None else SmoothClip(limit=clip)),
            ("estimator", _with_target(estimator, target_transform)),
        ]
    )


def _check_estimator(estimator: Any, target_transform: Any) -> None:
    """Refuse what cannot be fitted, and transforms of targets that are no numbers."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            f"`estimator` is {estimator!r}; expected an estimator with `fit`, such as "
            "NTKRidgeCV(). Pass an instance, not a class."
        )
    if target_transform is None:
        return
    if not is_regressor(estimator):
        raise ValueError(
            f"`target_transform` is {target_transform!r}, but {type(estimator).__name__} is no "
            "regressor; expected None. Only numeric targets can be transformed."
        )
    named = isinstance(target_transform, str) and target_transform in _TARGETS
    if not named and not hasattr(target_transform, "inverse_transform"):
        raise ValueError(
            f"`target_transform` is {target_transform!r}; expected None, one of "
            f"{tuple(_TARGETS)}, or a transformer with `inverse_transform`, which predictions need."
        )


def _check_options(max_one_hot: Any, missing_indicators: Any, scaling: Any, clip: Any) -> None:
    """Check the plain parameters."""
    if not _is_number(max_one_hot, Integral) or max_one_hot < 0:
        raise ValueError(
            f"`max_one_hot` is {max_one_hot!r}; expected a number of levels, an integer from 0. "
            "Pass 0 to code all categories by one column each."
        )
    if not isinstance(missing_indicators, bool | np.bool_):
        raise ValueError(f"`missing_indicators` is {missing_indicators!r}; expected True or False.")
    if not isinstance(scaling, str) or scaling not in _SCALERS:
        raise ValueError(
            f"`scaling` is {scaling!r}; expected one of {tuple(_SCALERS)}. Another scaler goes in "
            "with `set_params(scale=...)`."
        )
    if clip is not None and not (_is_number(clip, Real) and 0 < clip < np.inf):
        raise ValueError(
            f"`clip` is {clip!r}; expected a positive bound. Pass None to leave outliers alone."
        )


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _columns(features: Any, max_one_hot: int, missing_indicators: bool) -> ColumnTransformer:
    """Return what makes numbers of all columns, none of them missing."""
    number = SimpleImputer(
        strategy="median", add_indicator=missing_indicators, keep_empty_features=True
    )
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
    )
    branches = {
        "number": number,
        "one_hot": LevelEncoder(one_hot),
        "ordinal": LevelEncoder(ordinal),
    }
    return ColumnTransformer(
        [(kind, one, ColumnsOf(kind, features, max_one_hot)) for kind, one in branches.items()],
        sparse_threshold=0.0,
    )


def _with_target(estimator: Any, transform: Any) -> Any:
    """Return the estimator, trained on transformed targets if so wished."""
    if transform is None:
        return estimator
    known = isinstance(transform, str)
    # Targets are arrays, whatever `transform_output` is configured.
    transformer = transform
    if known:
        transformer = clone(_TARGETS[transform]).set_output(transform="default")
    # Ours are tested to invert; the user's is checked by scikit-learn, which warns.
    return TransformedTargetRegressor(estimator, transformer=transformer, check_inverse=not known)
