import numpy as np
import pytest
import torch

from sknk.solvers import asymmetric_svm
from tests.reference import linalg


def problem(n=12, seed=0):
    rng = np.random.default_rng(seed)
    K, y = rng.standard_normal((n, n)), np.where(rng.random(n) < 0.5, -1.0, 1.0)
    return torch.from_numpy(K), torch.from_numpy(y)


def test_asymmetric_svm_solves_the_block_system():
    K, y = problem()
    H, eye, gamma = y[:, None] * K * y, torch.eye(12, dtype=torch.float64), 0.7
    system = torch.cat([torch.cat([eye / gamma, H], 1), torch.cat([H.mT, eye / gamma], 1)])
    wanted = torch.linalg.solve(system, torch.ones(24, dtype=torch.float64))
    model = asymmetric_svm(K, y, gamma)
    # The system's condition number is below 1e3.
    torch.testing.assert_close(torch.cat([model.alpha, model.beta]), wanted, rtol=1e-11, atol=1e-11)


def test_asymmetric_svm_is_the_symmetric_one_when_the_kernel_is():
    K, y = torch.from_numpy(linalg.random_gram(10)), problem(10)[1]
    model = asymmetric_svm(K, y, gamma=0.01)
    H = y[:, None] * K * y
    wanted = torch.linalg.solve(H + 100.0 * torch.eye(10, dtype=torch.float64), torch.ones_like(y))
    torch.testing.assert_close(model.alpha, wanted, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(model.beta, wanted, rtol=1e-11, atol=1e-14)


def test_asymmetric_svm_decision_mixes_both_sides():
    K, y = problem()
    model = asymmetric_svm(K, y, 0.7)
    first, second = K.mT @ (model.alpha * y), K @ (model.beta * y)
    for mix in (0.0, 0.3, 1.0):
        wanted = mix * first + (1.0 - mix) * second
        torch.testing.assert_close(model.decision(K, K, mix), wanted, rtol=1e-12, atol=1e-12)


def test_asymmetric_svm_changes_signs_with_the_labels():
    K, y = problem()
    one, other = asymmetric_svm(K, y, 0.7), asymmetric_svm(K, -y, 0.7)
    torch.testing.assert_close(one.decision(K, K), -other.decision(K, K), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"K": torch.ones(3, 4)}, r"`K` has shape \(3, 4\) for 12 labels"),
        ({"y": torch.arange(12)}, "`y` has 0; expected -1 and 1 only"),
        ({"y": torch.ones(12, 1)}, r"`y` has shape \(12, 1\); expected \(n,\)"),
        ({"K": torch.full((12, 12), torch.nan)}, "`K` is not finite"),
        ({"gamma": 0.0}, "`gamma` is 0.0; expected a positive number"),
    ],
)
def test_asymmetric_svm_refuses_bad_input(change, match):
    K, y = problem()
    with pytest.raises(ValueError, match=match):
        asymmetric_svm(**{"K": K, "y": y, "gamma": 1.0, **change})


def test_asymmetric_svm_refuses_a_singular_system():
    with pytest.raises(ValueError, match=r"singular at `gamma`=0\.5"):
        asymmetric_svm(2.0 * torch.eye(3, dtype=torch.float64), torch.ones(3), gamma=0.5)
