"""Factors of gradients against the gradients they are factors of."""

import numpy as np
import pytest
import torch

from sknk.kernels._empirical import _contractions
from sknk.kernels._empirical._contractions import EACH, PAIRS, SUMMED
from sknk.kernels._empirical._gradients import (
    Dense,
    Lookup,
    Outer,
    RowGradients,
    compact,
    contracted,
    scaled,
    signs,
)

Q, LEAD, REST = 3, 4, 5


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def dense(n, places, seed):
    return Dense(normal(Q, n, LEAD, REST, seed=seed))


def outer(n, places, seed):
    return Outer(normal(Q, n, places, LEAD, seed=seed), normal(n, places, REST, seed=seed + 1))


def lookup(n, places, seed):
    codes = torch.from_numpy(np.random.default_rng(seed).integers(LEAD, size=(n, places)))
    return Lookup(normal(Q, n, places, REST, seed=seed), codes)


FACTORS = pytest.mark.parametrize("make", [dense, outer, lookup])
PLACES = pytest.mark.parametrize("places", [1, 3])
FORMULAS = {SUMMED: "qnp,qmp->nm", EACH: "qnp,qmp->qnm", PAIRS: "qnp,rmp->nqmr"}


def whole(gradient):
    return gradient.block(0, LEAD).flatten(2)  # (Q, n, p)


@FACTORS
@PLACES
@pytest.mark.parametrize("how", FORMULAS, ids=lambda how: type(how).__name__)
def test_contraction_equals_that_of_whole_gradients(make, places, how):
    g, h = make(6, places, 0), make(2, places, 5)
    wanted = torch.einsum(FORMULAS[how], whole(g), whole(h))
    # Sums of at most 60 products of order one.
    torch.testing.assert_close(g.contract(h, how), wanted, rtol=1e-12, atol=1e-12)


@FACTORS
@PLACES
def test_diag_equals_squared_norms(make, places):
    g = make(6, places, 0)
    torch.testing.assert_close(g.diag(), whole(g).square().sum((0, 2)), rtol=1e-12, atol=1e-12)


@FACTORS
def test_blocks_are_slices_of_the_gradient(make):
    g = make(4, 3, 0)
    parts = torch.cat([g.block(0, 1), g.block(1, 3), g.block(3, LEAD)], 2)
    torch.testing.assert_close(parts, g.block(0, LEAD), rtol=0.0, atol=0.0)


@FACTORS
def test_finite_says_which_rows(make):
    g = make(4, 2, 0)
    first = next(iter(vars(g).values()))
    first[1, 2] = torch.nan
    assert g.finite().tolist() == [True, True, False, True]


def test_pairs_are_the_same_for_any_memory_layout():
    L, R = normal(Q, 4, 7), normal(Q, 3, 7, seed=1)
    wanted = torch.einsum("qnp,rmp->nqmr", L, R)
    strided = [a.transpose(0, 1).contiguous().transpose(0, 1) for a in (L, R)]
    for left, right in ((L, R), strided, (L, strided[1])):
        torch.testing.assert_close(PAIRS.products(left, right), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("small", [0, 2**22])
@pytest.mark.parametrize("length", [7, 200])  # short rows are put side by side first
def test_summed_products_are_the_same_for_any_size(length, small, monkeypatch):
    monkeypatch.setattr(_contractions, "_SMALL", small)
    L, R = normal(Q, 4, length), normal(Q, 3, length, seed=1)
    wanted = torch.einsum("qnp,qmp->nm", L, R)
    torch.testing.assert_close(SUMMED.products(L, R), wanted, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(SUMMED.products(L, R), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("places", "lead", "rest", "formed"),
    [
        (1, 4, 5, False),  # one outer product is never formed
        (50, 4, 5, True),  # a small weight that slides over many places
        (3, 40, 50, False),  # three places: nine products of short vectors are cheaper
        (10, 200, 300, False),  # forming would take more than four times the memory
    ],
)
def test_compact_forms_gradients_only_where_they_are_small(places, lead, rest, formed):
    factors = Outer(normal(Q, 2, places, lead), normal(2, places, rest))
    found = compact(factors)
    assert isinstance(found, Dense) is formed
    numbers = sum(t.numel() for t in vars(found).values())
    assert numbers <= 4 * sum(t.numel() for t in vars(factors).values())
    torch.testing.assert_close(found.diag(), factors.diag(), rtol=1e-11, atol=1e-11)


@FACTORS
@PLACES
def test_signs_are_those_of_the_whole_gradient(make, places):
    g = RowGradients((("w",),), (make(5, places, 0),))
    found = signs(g, [LEAD]).part("w")
    torch.testing.assert_close(whole(found), whole(g.part("w")).sign(), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("how", FORMULAS, ids=lambda how: type(how).__name__)
@pytest.mark.parametrize(("one", "other"), [(dense, outer), (outer, dense), (lookup, dense)])
def test_gradients_of_different_forms_are_formed(one, other, how):
    g, h = one(6, 3, 0), other(2, 3, 5)
    wanted = torch.einsum(FORMULAS[how], whole(g), whole(h))
    torch.testing.assert_close(contracted(g, h, how), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", FORMULAS, ids=lambda how: type(how).__name__)
@pytest.mark.parametrize(("mine", "theirs"), [(1, 3), (3, 1), (4, 2)])
def test_rows_may_use_a_weight_at_different_numbers_of_places(how, mine, theirs):
    g, h = outer(6, mine, 0), outer(2, theirs, 5)
    wanted = torch.einsum(FORMULAS[how], whole(g), whole(h))
    torch.testing.assert_close(g.contract(h, how), wanted, rtol=1e-12, atol=1e-12)


@FACTORS
def test_scaled_multiplies_gradients(make):
    g = RowGradients((("w",),), (make(4, 3, 0),))
    torch.testing.assert_close(
        whole(scaled(g, 0.5).part("w")), 0.5 * whole(g.part("w")), rtol=1e-15, atol=1e-15
    )


def test_row_gradients_add_their_parts_and_join_their_rows():
    def block(n, seed):
        return RowGradients((("a",), ("b",)), (outer(n, 2, seed), dense(n, 1, seed)))

    first, second = block(4, 0), block(3, 7)
    joined = RowGradients.joined([first, second])
    assert len(joined) == 7
    K = joined.contract(first, SUMMED)
    wanted = sum(p.contract(r, SUMMED) for p, r in zip(second.parts, first.parts, strict=True))
    torch.testing.assert_close(K[4:], wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(joined.diag()[:4], first.diag(), rtol=1e-12, atol=1e-12)


def test_first_bad_names_row_and_parameter():
    good, bad = outer(4, 1, 0), outer(4, 1, 3)
    state = RowGradients((("a", "a.bias"), ("b",)), (good, bad))
    assert state.first_bad() is None
    bad.right[2, 0, 1] = torch.inf
    assert state.first_bad() == (2, "b")
    good.left[0, 1, 0, 0] = torch.nan
    assert state.first_bad() == (1, "a")


def test_first_bad_is_none_when_only_the_sum_overflows():
    large = Dense(torch.full((1, 4, 2, 2), 1e308, dtype=torch.float64))
    assert RowGradients((("a",),), (large,)).first_bad() is None
