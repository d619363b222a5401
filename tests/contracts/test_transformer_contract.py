"""What holds for every transformer: scikit-learn's contract and pickles."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks

from tests.cases import TRANSFORMERS


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
    model = clone(transformer).fit(X, X[:, 0] > 0.7)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.transform(X), model.transform(X))
