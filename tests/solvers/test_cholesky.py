import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sknk import _config
from sknk.exceptions import MemoryBudgetError, NotPSDError, NumericalWarning
from sknk.solvers import Cholesky, KernelGram, _cholesky
from tests.reference import linalg


def tensor(x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype)


def with_duplicates(n):
    """Return a Gram matrix whose rows come in equal pairs: singular without a shift."""
    half = linalg.random_gram(n // 2)
    return np.kron(half, np.ones((2, 2)))


@pytest.mark.parametrize(("dtype", "first"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_cholesky_adds_first_jitter_and_warns(dtype, first):
    K = tensor(with_duplicates(20), dtype) * 5
    with pytest.warns(NumericalWarning, match=rf"added jitter .* {first:.0e} of the mean"):
        factor = Cholesky().factorize(K, 0.0)
    assert factor.jitter_ == pytest.approx(first * float(K.diagonal().mean()))
    expected = K + factor.jitter_ * torch.eye(20, dtype=dtype)
    torch.testing.assert_close(factor.L @ factor.L.mT, expected)


def test_cholesky_climbs_ladder_as_far_as_needed():
    K = tensor(linalg.random_gram(20, rank=5))
    with pytest.warns(NumericalWarning, match=r"pivot -\S+ at row \d+, float64\): added jitter"):
        factor = Cholesky().factorize(K, -3e-7)
    assert factor.jitter_ == pytest.approx(1e-6 * float(K.diagonal().mean()))


def test_cholesky_error_names_pivot_row_and_dtype_when_float32():
    K = torch.eye(6)
    K[4, 4] = -0.5
    message = r"smallest pivot -5\.0e-01 at row 4, float32, jitter tried up to 1e-04\)\. "
    with pytest.raises(NotPSDError, match=message + "Increase `alpha` or pass `dtype='float64'`"):
        Cholesky().factorize(K, 0.0)


def test_cholesky_error_advises_only_alpha_when_float64():
    with pytest.raises(NotPSDError, match=r"float64, no jitter tried\)\. Increase `alpha`\.$"):
        Cholesky(jitter=0.0).factorize(-torch.eye(3, dtype=torch.float64), 0.0)


@pytest.mark.parametrize("jitter", [-1e-3, 2.0, "auto", float("nan")])
def test_cholesky_refuses_bad_jitter(jitter):
    with pytest.raises(ValueError, match="`jitter` is"):
        Cholesky(jitter=jitter).factorize(torch.eye(2), 0.0)


def test_cholesky_overwrite_uses_the_given_memory():
    K = tensor(linalg.random_gram(10))
    factor = Cholesky().factorize(K, 1.0, overwrite=True)
    assert factor._packed.data_ptr() == K.data_ptr()


def test_cholesky_takes_column_major_gram():
    K = tensor(linalg.random_gram(10)).mT
    factor = Cholesky().factorize(K, 1.0, overwrite=True)
    assert factor._packed.data_ptr() == K.data_ptr()
    assert factor._packed.is_contiguous()


def test_cholesky_takes_kernel_and_rows():
    class Linear:
        def __call__(self, X, Y=None):
            return X @ (X if Y is None else Y).mT

        def diag(self, X):
            return X.square().sum(1)

    X = tensor(np.random.default_rng(0).standard_normal((8, 3)))
    factor = Cholesky().factorize(KernelGram(Linear(), X), 0.5)
    expected = linalg.inverse((X @ X.mT).numpy(), 0.5)
    np.testing.assert_allclose(factor.solve(torch.eye(8)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("call", ["factorize", "reshift", "append"])
def test_cholesky_checks_memory_before_it_allocates(call):
    K, small = tensor(linalg.random_gram(50)), torch.ones(50, 1, dtype=torch.float64)
    factor = Cholesky().factorize(K, 1.0)
    calls = {
        "factorize": lambda: Cholesky().factorize(K, 1.0),
        "reshift": lambda: factor.reshift(2.0),
        "append": lambda: factor.append(small, small[:1], 1.0),
    }
    with (
        _config.config_context(memory_budget=1000),
        pytest.raises(MemoryBudgetError, match=r"50|51"),
    ):
        calls[call]()


def test_append_grows_in_place_and_forks_by_copy():
    K = tensor(linalg.random_gram(40))
    factor = Cholesky().factorize(K[:20, :20], 1.0)
    one = factor.append(K[:20, 20:21], K[20:21, 20:21], 1.0)
    two = one.append(K[:21, 21:22], K[21:22, 21:22], 1.0)
    fork = one.append(K[:21, 22:23], K[22:23, 22:23], 1.0)
    assert two._packed.data_ptr() == one._packed.data_ptr()
    assert fork._packed.data_ptr() != one._packed.data_ptr()
    for f, rows in [(one, [*range(21)]), (two, [*range(22)]), (fork, [*range(21), 22])]:
        expected = linalg.inverse(K[rows][:, rows].numpy(), 1.0)
        np.testing.assert_allclose(f.solve(torch.eye(len(rows))), expected, atol=1e-12)


def test_append_of_duplicate_adds_jitter_and_keeps_old_object():
    K = tensor(linalg.random_gram(20))
    factor = Cholesky().factorize(K, 0.0)
    before = factor.solve(torch.ones(20))
    with pytest.warns(NumericalWarning, match="added jitter"):
        longer = factor.append(K[:, :1], K[:1, :1], 0.0)
    assert longer.jitter_ > 0
    assert torch.equal(factor.solve(torch.ones(20)), before)


def test_append_refuses_wrong_shapes():
    factor = Cholesky().factorize(torch.eye(3), 1.0)
    with pytest.raises(ValueError, match=r"`K_cross` has shape \(2, 1\) and `K_new` \(1, 1\)"):
        factor.append(torch.zeros(2, 1), torch.ones(1, 1), 1.0)


def test_append_names_row_when_not_finite():
    factor = Cholesky().factorize(torch.eye(3), 1.0)
    with pytest.raises(ValueError, match="NaN or infinite entry in row 3"):
        factor.append(torch.full((3, 1), torch.nan), torch.ones(1, 1), 1.0)


@pytest.mark.parametrize("rows", [0, 10**9], ids=["update", "refactorization"])
@pytest.mark.parametrize("index", [[0], [5, 6, 50], [99], [-1, 0, 0], []])
def test_remove_by_either_route_equals_refit(monkeypatch, rows, index):
    monkeypatch.setattr(_cholesky, "_UPDATE_ROWS", rows)
    K = linalg.random_gram(100)
    kept = np.delete(np.arange(100), np.array(index, dtype=int))
    shorter = Cholesky().factorize(tensor(K), 0.1).remove(index)
    expected = linalg.inverse(K[np.ix_(kept, kept)], 0.1)
    np.testing.assert_allclose(shorter.solve(torch.eye(len(kept))), expected, atol=1e-11)
    np.testing.assert_allclose(shorter.reshift(1.0).inv_diag(), np.diag(
        linalg.inverse(K[np.ix_(kept, kept)], 1.0)), rtol=1e-11)  # fmt: skip


def test_remove_refuses_rows_out_of_range():
    with pytest.raises(IndexError, match="`index` is 3; expected rows of 3"):
        Cholesky().factorize(torch.eye(3), 1.0).remove(3)


def test_remove_refuses_to_empty():
    with pytest.raises(ValueError, match="`index` removes all 3 rows"):
        Cholesky().factorize(torch.eye(3), 1.0).remove([0, 1, 2])


def test_pickle_of_appended_factor_drops_spare_room():
    K = tensor(linalg.random_gram(60))
    longer = Cholesky().factorize(K[:50, :50], 1.0).append(K[:50, 50:], K[50:, 50:], 1.0)
    longer = longer.append(K[:, :1], K[:1, :1], 1.0)
    blob = pickle.dumps(longer)
    assert len(blob) < 1.2 * 8 * 61**2
    loaded = pickle.loads(blob)
    assert torch.equal(loaded.L, longer.L)
    assert loaded.append(torch.zeros(61, 1), torch.ones(1, 1), 1.0).n == 62


def test_warning_is_absent_when_no_jitter_needed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cholesky().factorize(tensor(with_duplicates(10)), 1e-6).jitter_ == 0.0


steps = st.lists(st.one_of(st.integers(1, 4), st.integers(-6, -1)), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(steps=steps, seed=st.integers(0, 10**6), update=st.booleans())
def test_any_sequence_of_append_and_remove_equals_refit(steps, seed, update):
    rng, pool = np.random.default_rng(seed), linalg.random_gram(60, seed)
    shifts, rows, spare = rng.uniform(0.1, 2, 60), list(range(8)), list(range(8, 60))
    factor = Cholesky().factorize(tensor(pool[:8, :8]), shifts[:8])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cholesky, "_UPDATE_ROWS", 0 if update else 10**9)
        for step in steps:
            if step > 0:
                new, spare = spare[:step], spare[step:]
                factor = factor.append(pool[np.ix_(rows, new)], pool[np.ix_(new, new)], shifts[new])
                rows = rows + new
            else:
                gone = rng.choice(len(rows), min(-step, len(rows) - 1), replace=False)
                factor = factor.remove(gone)
                rows = [r for i, r in enumerate(rows) if i not in set(gone.tolist())]
    expected = linalg.inverse(pool[np.ix_(rows, rows)], shifts[rows])
    np.testing.assert_allclose(factor.solve(torch.eye(len(rows))), expected, atol=1e-10)
    np.testing.assert_allclose(factor.inv_diag(), np.diag(expected), rtol=1e-10)
