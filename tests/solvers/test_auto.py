import pytest
import torch

from sknk.solvers import Cholesky, Eigh, resolve_solver

PROBLEM = {"n": 100, "n_targets": 1, "dtype": torch.float64}


@pytest.mark.parametrize(
    ("solver", "path", "expected"),
    [
        ("auto", False, Cholesky),
        ("auto", True, Eigh),
        ("cholesky", False, Cholesky),
        ("cholesky", True, Cholesky),
        ("eigh", False, Eigh),
    ],
)
def test_resolve_solver_follows_its_table(solver, path, expected):
    assert type(resolve_solver(solver, **PROBLEM, path=path)) is expected


@pytest.mark.parametrize("n", [1, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resolve_solver_never_switches_by_size(n, dtype):
    assert isinstance(resolve_solver("auto", n, 5, dtype), Cholesky)


def test_resolve_solver_returns_instances_unchanged():
    solver = Cholesky(jitter=0.0)
    assert resolve_solver(solver, **PROBLEM) is solver


def test_resolve_solver_refuses_unknown_name():
    with pytest.raises(ValueError, match=r"`solver` is 'lu'; expected one of \['auto', 'choles"):
        resolve_solver("lu", **PROBLEM)


def test_resolve_solver_refuses_other_types():
    with pytest.raises(TypeError, match="`solver` is a ABCMeta"):
        resolve_solver(Cholesky, **PROBLEM)
