import numpy as np, pytest
from sklearn.utils import estimator_checks as checks
from sknk import FeatureLearner, NTKRidgeCV, NTKRidgeClassifierCV
from tests.cases import SEARCH

L = [
    FeatureLearner(NTKRidgeCV(feature_learning="agop", max_rounds=1, **SEARCH)),
    FeatureLearner(NTKRidgeCV(feature_learning="ard", **SEARCH)),
    FeatureLearner(NTKRidgeClassifierCV(feature_learning="agop_diag", max_rounds=1, **SEARCH)),
    FeatureLearner(),
]


@checks.parametrize_with_checks(L)
def test_a(estimator, check):
    check(estimator)


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
@pytest.mark.parametrize("t", L)
def test_b(check, t):
    check(type(t).__name__, t)
