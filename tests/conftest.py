"""Settings every test runs under."""

import os

# scikit-learn reads this once, at import: without it the array-API estimator checks are skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import dataclasses

import hypothesis
import pytest
import torch

from sknk import _config

# Reproducible and fast: the same examples on every run, no clock, no database on disk.
hypothesis.settings.register_profile(
    "sknk", max_examples=30, derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("sknk")


# Exceptions to "warnings are errors": each with its date, the package at fault and the reason.
WARNINGS = [
    # 2026-11, torch 2.13: forward-mode differentiation scripts its own formulas when first used.
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning",
]


def pytest_configure(config):
    for line in WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture
def fresh_config():
    """Undo `set_config`, which changes the process default too."""
    options = dataclasses.asdict(_config.current())
    yield
    _config.set_config(**options)


@pytest.fixture
def cuda():
    """The CUDA device, or a skip."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return torch.device("cuda")
