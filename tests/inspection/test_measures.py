import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from sknk.inspection._measures import check_names, feature_names_of, positive_sum

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 5.0]})
Y = [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("values", "total"), [([1.0, 2.0], 3.0), ([1.0, -5.0], 1.0), ([0.0], 1.0)])
def test_sum_counts_what_is_positive(values, total):
    assert positive_sum(np.array(values), "v") == total


def test_names_become_text():
    assert check_names([1, "b"], 2) == ["1", "b"]


def test_names_pass_through_nested_pipelines():
    inner = make_pipeline(PolynomialFeatures(2, include_bias=False), LinearRegression())
    model = make_pipeline(StandardScaler(), inner).fit(FRAME, Y)
    assert list(feature_names_of(model)) == ["a", "b", "a^2", "a b", "b^2"]


def test_names_are_unknown_behind_a_step_that_gives_none():
    silent = make_pipeline(FunctionTransformer(np.asarray), LinearRegression())
    assert feature_names_of(silent.fit(FRAME, Y)) is None
    assert feature_names_of(LinearRegression().fit(FRAME.to_numpy(), Y)) is None
