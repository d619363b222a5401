"""scikit-learn's contract, for every transformer of the package."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils import estimator_checks as checks

from sknk.preprocessing import SmoothClip
from sknk.preprocessing._categories import LevelEncoder
from sknk.preprocessing._scale import NormalScores, SpreadScaler
from sknk.preprocessing._target import SkewTransformer

CODES = OrdinalEncoder(
    handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
)
LEVELS = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
TRANSFORMERS = [
    SmoothClip(),
    SmoothClip(limit=0.5),
    SpreadScaler(),
    SpreadScaler(robust=False),
    NormalScores(),
    NormalScores(n_quantiles=5),
    SkewTransformer(),
    SkewTransformer(threshold=0.0),
    LevelEncoder(CODES),
    LevelEncoder(LEVELS),
]


@checks.parametrize_with_checks(TRANSFORMERS)
def test_transformer_passes_sklearn_check(estimator, check):
    check(estimator)


# What parametrize_with_checks leaves to third parties. The checks of `set_output` fit frames and
# transform arrays, of which scikit-learn warns.
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@pytest.mark.parametrize(
    "check",
    [
        checks.check_dataframe_column_names_consistency,
        checks.check_param_validation,
        checks.check_set_output_transform,
        checks.check_set_output_transform_pandas,
        checks.check_set_output_transform_polars,
        checks.check_global_output_transform_pandas,
        checks.check_global_set_output_transform_polars,
        checks.check_transformer_get_feature_names_out,
        checks.check_transformer_get_feature_names_out_pandas,
        checks.check_inplace_ensure_writeable,
    ],
)
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_transformer_passes_sklearn_check_for_third_parties(transformer, check):
    check(type(transformer).__name__, transformer)


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_transformer_answers_survive_pickle(transformer):
    X = np.random.default_rng(0).exponential(size=(20, 2))
    model = clone(transformer).fit(X)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.transform(X), model.transform(X))
