"""Groups of rows and labels together, against enumeration."""

from itertools import product

import numpy as np
import pytest
import torch

from sknk.solvers import (
    DenseGram,
    FeatureGram,
    GroupedGram,
    ProductGram,
    group_reductions_before,
    information_before,
    least_variance,
    least_variance_groups,
    most_informative,
)

C, S2 = 3, 0.3


def problem(n=12, d=4, seed=0):
    """Return features (n, d), few features (n C, C), and the explicit ones of their product."""
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, d))
    p = rng.dirichlet(np.ones(C), size=n)
    A = np.sqrt(p)[:, :, None] * (np.eye(C) - p[:, None, :])  # (n, C, C)
    V = np.einsum("ncb,nd->ncbd", A, phi).reshape(n * C, C * d)
    return phi, A, V


def total_variance(V, groups, s2=S2):
    """Return the sum of variances of all rows once groups are observed."""
    if not len(groups):
        return np.square(V).sum()
    rows = (np.asarray(groups)[:, None] * C + np.arange(C)).ravel()
    K = V @ V.T
    G = K[np.ix_(rows, rows)] + s2 * np.eye(len(rows))
    return np.trace(K - K[:, rows] @ np.linalg.solve(G, K[rows]))


def operator(phi, A):
    return GroupedGram(FeatureGram(torch.from_numpy(phi)), torch.from_numpy(A))


def test_grouped_gram_is_that_of_explicit_features():
    phi, A, V = problem()
    gram, K = operator(phi, A), torch.from_numpy(V @ V.T)
    idx = torch.tensor([5, 0, 5, 30])
    torch.testing.assert_close(gram.dense(), K)
    torch.testing.assert_close(gram.diag(), K.diagonal())
    torch.testing.assert_close(gram.block(idx, slice(2, 9)), K[idx, 2:9])
    torch.testing.assert_close(gram.restrict(idx).dense(), K[idx][:, idx])
    W = torch.randn(len(K), 3, dtype=torch.float64)
    torch.testing.assert_close(gram.matmul(W), K @ W)
    torch.testing.assert_close(gram.matmul(W[:, 0]), K @ W[:, 0])
    blocks = K.unflatten(0, (-1, C)).unflatten(2, (-1, C))
    squares = (K @ K).unflatten(0, (-1, C)).unflatten(2, (-1, C))
    for i in range(len(phi)):
        torch.testing.assert_close(gram.within()[i], blocks[i, :, i])
        torch.testing.assert_close(gram.squares()[i], squares[i, :, i])


def test_product_gram_is_that_of_explicit_features():
    phi, A, _ = problem()
    B = torch.from_numpy(A[:, 0])
    gram = ProductGram(FeatureGram(torch.from_numpy(phi)), B)
    explicit = np.einsum("nb,nd->nbd", A[:, 0], phi).reshape(len(phi), -1)
    K, idx = torch.from_numpy(explicit @ explicit.T), torch.tensor([7, 0, 3])
    torch.testing.assert_close(gram.dense(), K)
    torch.testing.assert_close(gram.diag(), K.diagonal())
    torch.testing.assert_close(gram.restrict(idx).dense(), K[idx][:, idx])
    W = torch.randn(len(K), 3, dtype=torch.float64)
    torch.testing.assert_close(gram.matmul(W), K @ W)
    torch.testing.assert_close(gram.matmul(W[:, 0]), K @ W[:, 0])


def test_product_gram_refuses_another_number_of_rows():
    with pytest.raises(ValueError, match=r"`A` has shape \(2, 1\); expected \(3, m\)"):
        ProductGram(FeatureGram(torch.eye(3)), torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"`A` has shape \(3, 1\); expected \(3, C, m\)"):
        GroupedGram(FeatureGram(torch.eye(3)), torch.ones(3, 1))


@pytest.mark.parametrize("given", [[], [2, 7]])
def test_groups_are_chosen_as_by_brute_force(given):
    phi, A, V = problem()
    found = least_variance_groups(
        operator(phi, A), 4, given=torch.tensor(given, dtype=torch.long), noise_variance=S2
    )
    known = list(given)
    for group in found.tolist():
        left = [g for g in range(len(phi)) if g not in known]
        falls = [total_variance(V, known) - total_variance(V, [*known, g]) for g in left]
        assert group == left[int(np.argmax(falls))]
        known.append(group)


def test_replayed_scores_are_falls_of_the_summed_variance():
    phi, A, V = problem(seed=1)
    chosen = torch.tensor([3, 8])
    steps = list(
        group_reductions_before(
            operator(phi, A), chosen, given=torch.tensor([1]), noise_variance=S2
        )
    )
    for step, known in zip(steps, ([1], [1, 3]), strict=True):
        falls = [total_variance(V, known) - total_variance(V, [*known, g]) for g in range(len(phi))]
        left = [g for g in range(len(phi)) if g not in known]
        np.testing.assert_allclose(step.numpy()[left], np.array(falls)[left], rtol=1e-9)


def test_backward_drops_the_group_whose_loss_costs_least():
    phi, A, V = problem(seed=2)
    none = torch.tensor([], dtype=torch.long)
    every = least_variance_groups(operator(phi, A), 6, given=none, noise_variance=S2)
    kept = least_variance_groups(operator(phi, A), 4, given=none, noise_variance=S2, forward=6)
    left = every.tolist()
    while len(left) > 4:
        costs = [total_variance(V, [h for h in left if h != g]) for g in left]
        left.pop(int(np.argmin(costs)))
    assert kept.tolist() == left


def test_groups_of_one_row_are_rows():
    phi = torch.from_numpy(np.random.default_rng(3).normal(size=(20, 3)))
    options = {"given": torch.tensor([4]), "noise_variance": S2}
    single = torch.ones(20, 1, 1, dtype=torch.float64)
    rows = least_variance(FeatureGram(phi), 5, **options, forward=8)
    groups = least_variance_groups(GroupedGram(FeatureGram(phi), single), 5, **options, forward=8)
    torch.testing.assert_close(groups, rows)
    dense = least_variance_groups(GroupedGram(DenseGram(phi @ phi.mT), single), 5, **options)
    torch.testing.assert_close(dense, least_variance(FeatureGram(phi), 5, **options))


# --- labels together ------------------------------------------------------------------------------


def draws(K=5, n=6, classes=3, seed=0):
    return np.random.default_rng(seed).dirichlet(0.5 * np.ones(classes), size=(K, n))


def information(P, rows):
    """Return I(y_S; f) by enumeration."""
    K, _, classes = P.shape
    joint = 0.0
    for labels in product(range(classes), repeat=len(rows)):
        pairs = list(zip(rows, labels, strict=True))
        p = np.mean([np.prod([P[k, i, c] for i, c in pairs]) for k in range(K)])
        joint -= p * np.log(p)
    return joint + np.sum(P[:, rows] * np.log(P[:, rows])) / K


def test_information_of_a_row_is_a_difference_of_mutual_information():
    P, chosen = draws(), [4, 1, 2]
    generator = torch.Generator().manual_seed(0)
    steps = information_before(torch.from_numpy(P), torch.tensor(chosen), generator)
    for k, step in enumerate(steps):
        known = chosen[:k]
        base = information(P, known) if known else 0.0
        for i in set(range(P.shape[1])) - set(known):
            assert float(step[i]) == pytest.approx(information(P, [*known, i]) - base, abs=1e-12)


def test_greedy_batch_is_that_of_enumeration():
    P = draws(seed=1)
    found = most_informative(torch.from_numpy(P), 3, torch.Generator().manual_seed(0)).tolist()
    known = []
    for row in found:
        left = [i for i in range(P.shape[1]) if i not in known]
        assert row == left[int(np.argmax([information(P, [*known, i]) for i in left]))]
        known.append(row)


def test_drawn_configurations_come_near_the_exact_entropy():
    P, chosen = torch.from_numpy(draws(K=8, n=9, seed=2)), torch.arange(7)
    exact = list(information_before(P, chosen, torch.Generator().manual_seed(0)))
    drawn = list(
        information_before(P, chosen, torch.Generator().manual_seed(0), n_configurations=20)
    )
    many = list(
        information_before(P, chosen, torch.Generator().manual_seed(0), n_configurations=700)
    )
    torch.testing.assert_close(drawn[2], exact[2])  # 9 configurations are still enumerated
    rough, fine = (float((line[-1] - exact[-1]).abs().mean()) for line in (drawn, many))
    assert 0.0 < fine < 0.5 * rough


def test_a_copy_of_a_sure_row_tells_nothing_more():
    P = draws(K=4, n=3, classes=2, seed=5).round()
    P[:, 1] = P[:, 0]
    P[:, 0] = P[:, 1] = np.array([[1, 0], [0, 1], [1, 0], [0, 1.0]])
    steps = list(
        information_before(
            torch.from_numpy(P), torch.tensor([0, 2]), torch.Generator().manual_seed(0)
        )
    )
    assert float(steps[0][1]) == pytest.approx(np.log(2.0))
    assert float(steps[1][1]) == pytest.approx(0.0, abs=1e-12)
