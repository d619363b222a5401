"""The three tile loops on plain functions, without kernels."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sknk import _config
from sknk.kernels import NTK, _tiles
from tests.cases import rows

CPU = torch.device("cpu")


def product(rx, ry):
    return rx @ ry.T


class Spy:
    """Counts the tiles a loop asks for, and their entries."""

    def __init__(self):
        self.shapes = []

    def __call__(self, rx, ry):
        self.shapes.append((len(rx), len(ry)))
        return [product(rx, ry)]


def blocks(x, size):
    return _tiles.blocks_of(x, lambda part: part, size)


@given(n=st.integers(0, 50), size=st.integers(1, 60))
def test_spans_cover_every_row_once(n, size):
    found = _tiles.spans(n, size)
    assert [i for s in found for i in range(n)[s]] == list(range(n))
    assert all(0 < s.stop - s.start <= size for s in found)


@given(n=st.integers(1, 12), m=st.integers(1, 12), size=st.integers(1, 15))
def test_fill_writes_every_entry(n, m, size):
    x, y = torch.from_numpy(rows(n)), torch.from_numpy(rows(m, seed=1))
    cross, auto = torch.full((n, m), torch.nan).double(), torch.full((n, n), torch.nan).double()
    _tiles.fill([cross], Spy(), blocks(x, size), blocks(y, size))
    _tiles.fill([auto], Spy(), blocks(x, size))
    np.testing.assert_allclose(cross, product(x, y), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(auto, product(x, x), rtol=1e-13, atol=1e-14)


def test_fill_evaluates_one_triangle_of_a_symmetric_matrix():
    x, auto, cross = torch.from_numpy(rows(10)), Spy(), Spy()
    out = torch.empty(10, 10).double()
    _tiles.fill([out], auto, blocks(x, 4))
    _tiles.fill([out], cross, blocks(x, 4), blocks(x, 4))
    assert len(auto.shapes) == 6  # 3 blocks: 3 diagonal tiles and 3 below
    assert len(cross.shapes) == 9


def test_fill_is_exactly_symmetric_when_tiles_are_not():
    x, out = torch.from_numpy(rows(6)), torch.empty(6, 6).double()

    def skewed(rx, ry):
        K = product(rx, ry)
        return [K + 1e-13 * torch.arange(K.numel()).reshape(K.shape)]

    _tiles.fill([out], skewed, blocks(x, 4))
    assert torch.equal(out, out.T)


def test_fill_writes_several_matrices_in_one_pass():
    x = torch.from_numpy(rows(7))
    outs = [torch.empty(7, 7).double() for _ in range(2)]
    _tiles.fill(outs, lambda a, b: [product(a, b), 2 * product(a, b)], blocks(x, 3))
    np.testing.assert_array_equal(outs[1], 2 * outs[0])


@given(n=st.integers(1, 9), t=st.integers(1, 3), size=st.integers(1, 10))
def test_matmul_accumulates_both_triangles(n, t, size):
    x, y = torch.from_numpy(rows(n)), torch.from_numpy(rows(5, seed=1))
    for other, by in ((x, None), (y, blocks(y, size))):
        V = torch.from_numpy(rows(len(other), t, seed=2))
        out = torch.full((n, t), torch.nan).double()
        _tiles.matmul(out, product, V, blocks(x, size), by)
        np.testing.assert_allclose(out, product(x, other) @ V, rtol=1e-12, atol=1e-13)


def as_they_are(x, values):
    return x


@given(n=st.integers(1, 8), size=st.integers(1, 9), symmetric=st.booleans())
def test_vjp_equals_autograd_of_the_whole_matrix(n, size, symmetric):
    x = torch.from_numpy(rows(n)).requires_grad_()
    y = x if symmetric else torch.from_numpy(rows(5, seed=1)).requires_grad_()
    W = torch.from_numpy(rows(n, len(y), seed=2))
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def tile(a, b, values):
        return torch.exp(values["scale"] * a @ b.T / 3)

    wanted = torch.autograd.grad((W * tile(x, y, {"scale": scale})).sum(), [scale, x, y])
    other, values = None if symmetric else y, {"scale": scale}
    found = _tiles.vjp(as_they_are, tile, x, other, W, values, size)
    np.testing.assert_allclose(found.values["scale"], wanted[0], rtol=1e-11)
    np.testing.assert_allclose(found.X, wanted[1], rtol=1e-10, atol=1e-12)
    assert (found.Y is None) == symmetric
    if not symmetric:
        np.testing.assert_allclose(found.Y, wanted[2], rtol=1e-10, atol=1e-12)


def test_vjp_is_zero_for_values_that_do_not_matter():
    x = torch.from_numpy(rows(3)).requires_grad_()
    unused, W = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.ones(3, 3).double()
    values = {"unused": unused}
    found = _tiles.vjp(as_they_are, lambda a, b, values: a @ b.T, x, None, W, values, 2)
    assert found.values["unused"].tolist() == [0.0, 0.0]
    constant = _tiles.vjp(as_they_are, lambda a, b, values: W, x, None, W, {}, 3)
    assert not constant.X.any()


def test_tiles_fit_the_cache_of_the_threads():
    for dtype in (torch.float32, torch.float64):
        size = _tiles.tile_rows(CPU, dtype)
        assert size > 100
        assert size**2 * dtype.itemsize <= 9 * 2**16 * torch.get_num_threads()
    assert _tiles.tile_rows(torch.device("cuda"), torch.float64) >= 1024


def test_tiles_of_images_hold_as_many_numbers_as_tiles_of_rows():
    of_rows = _tiles.tile_rows(CPU, torch.float64)
    assert of_rows / 64 - 1 < _tiles.tile_rows(CPU, torch.float64, entries=64**2) <= of_rows / 64
    assert _tiles.tile_rows(CPU, torch.float64, entries=10**12) == 1


@pytest.mark.parametrize(
    ("n", "m", "tiles"), [(600, 1, 1), (1, 600, 1), (600, 10, 10), (50, 50, 4)]
)
def test_tiles_beside_few_rows_are_long(n, m, tiles, monkeypatch):
    kernel, X, Y = NTK(depth=2), rows(n), rows(m, seed=1)
    whole = kernel(X, Y)
    spy = mock.Mock(side_effect=NTK._tile)
    monkeypatch.setattr(NTK, "_tile", lambda self, *args: spy(self, *args))
    with _config.config_context(tile_size=25):
        np.testing.assert_allclose(kernel(X, Y), whole, rtol=1e-13, atol=1e-13)
    assert spy.call_count == tiles


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_configured_tile_size_is_used(size):
    with _config.config_context(tile_size=size):
        assert _tiles.tile_rows(CPU, torch.float64) == size
