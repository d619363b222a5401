"""Rows that are prepared once."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF

from sknk.kernels import NTK, EmpiricalNTK, NetworkKernel, Normalized
from sknk.kernels._adapt import as_kernel
from sknk.kernels._prepared import PreparedRows, _spans
from tests.cases import ANY_WIDTH, IMAGE, IMAGE_NETWORKS, rows

KERNELS = [
    Normalized(NTK(depth=2)),
    NTK(bias_var=0.1) + 0.5,
    as_kernel(RBF()),
    EmpiricalNTK(ANY_WIDTH),
    NetworkKernel(IMAGE_NETWORKS["flatten"], image_shape=IMAGE),
]


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 1024, 256 * 7 + 3])
def test_spans_are_the_binary_digits_of_the_rows(n):
    spans = _spans(n)
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    sizes = [stop - start for start, stop in spans]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sum(sizes) == n // 256 * 256


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_prepared_rows_give_the_kernel(kernel):
    X, Y = torch.from_numpy(rows(1300)), torch.from_numpy(rows(3, seed=1))
    prepared = PreparedRows(kernel)
    for n in (0, 1, 256, 300, 900, 1300):
        prepared = prepared.of(X[:n])
        found, diag = prepared.cross_with_diag(X[:n], Y)
        torch.testing.assert_close(found, kernel(X[:n], Y), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(diag, kernel.diag(Y), rtol=1e-12, atol=1e-12)


def test_rows_are_prepared_a_few_times(monkeypatch):
    X, seen = torch.from_numpy(rows(2048)), []
    whole = NTK._prepare
    monkeypatch.setattr(
        NTK, "_prepare", lambda self, x, v: seen.append(len(x)) or whole(self, x, v)
    )
    prepared = PreparedRows(NTK())
    for n in range(1, 2049):
        prepared = prepared.of(X[:n])
    assert sum(seen) <= 4 * 2048


def test_forks_keep_their_own_rows_and_pickles_none():
    X, Y = torch.from_numpy(rows(600)), torch.from_numpy(rows(2, seed=1))
    other = torch.cat([X[:300], -X[300:]])
    base = PreparedRows(NTK()).of(X[:300])
    one, two = base.of(X), base.of(other)
    torch.testing.assert_close(one.cross_with_diag(X, Y)[0], NTK()(X, Y))
    torch.testing.assert_close(two.cross_with_diag(other, Y)[0], NTK()(other, Y))
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(
        again.of(X).cross_with_diag(X, Y)[0], one.cross_with_diag(X, Y)[0]
    )
    torch.testing.assert_close(again.cross_with_diag(X, Y)[0], NTK()(X, Y))
