"""Tangent kernels of torch modules."""

from sknk.kernels._empirical._choice import Choice
from sknk.kernels._empirical._kernel import EmpiricalNTK
from sknk.kernels._empirical._linearize import Linearization, linearize

__all__ = ["Choice", "EmpiricalNTK", "Linearization", "linearize"]
