"""scikit-learn's checks of bandits, which take a plain target as rewards of a single arm."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks

from sknk.bandits import bandit_target
from tests.cases import BANDITS
from tests.contracts.test_estimator_contract import tensors_in

# Features of one arm, as scikit-learn's targets have one.
SINGLE = [
    clone(policy).set_params(arm_features=[[1.0, 2.0]]) if policy.encoding == "features" else policy
    for policy in BANDITS
]


def name_of(policy):
    return f"{type(policy).__name__}-{policy.encoding}"


def problem():
    rng = np.random.default_rng(0)
    X, arm = rng.normal(size=(30, 6)), np.arange(30) % 3
    return X, bandit_target(arm, X[:, 0] * arm + 0.1 * rng.normal(size=30), 1 / 3)


@checks.parametrize_with_checks(SINGLE)
def test_bandit_passes_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [checks.check_dataframe_column_names_consistency, checks.check_param_validation]
)
@pytest.mark.parametrize("policy", SINGLE, ids=name_of)
def test_bandit_passes_sklearn_check_for_third_parties(policy, check):
    check(type(policy).__name__, policy)


@pytest.mark.parametrize("policy", BANDITS, ids=name_of)
def test_bandit_state_holds_no_tensor(policy):
    X, y = problem()
    policy = clone(policy).fit(X, y)
    policy.predict(X[:1])
    assert not list(tensors_in(policy.__getstate__()))
    again = pickle.loads(pickle.dumps(policy))
    np.testing.assert_array_equal(again.predict_reward(X), policy.predict_reward(X))


@pytest.mark.parametrize("policy", BANDITS, ids=name_of)
def test_bandit_leaves_global_generators_alone(policy):
    X, y = problem()
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    clone(policy).set_params(random_state=None).fit(X, y).predict(X)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("policy", BANDITS, ids=name_of)
def test_bandit_in_float32_is_near_float64(policy):
    X, y = problem()
    policy = clone(policy).set_params(random_state=0)
    one, other = policy.fit(X, y), clone(policy).set_params(dtype="float32").fit(X, y)
    for part in (slice(0, 1), slice(1, 5)):
        one.partial_fit(X[part], y[part])
        other.partial_fit(X[part], y[part])
    np.testing.assert_allclose(other.predict_reward(X), one.predict_reward(X), atol=2e-4)


@pytest.mark.parametrize("policy", BANDITS, ids=name_of)
def test_a_copy_learns_for_itself(policy):
    X, y = problem()
    policy = clone(policy).fit(X, y)
    twin = copy.deepcopy(policy)
    before = policy.predict_reward(X)
    twin.partial_fit(X[:5], y[:5])
    np.testing.assert_array_equal(policy.predict_reward(X), before)
    policy.partial_fit(X[:5], y[:5])
    np.testing.assert_allclose(policy.predict_reward(X), twin.predict_reward(X), rtol=1e-12)
