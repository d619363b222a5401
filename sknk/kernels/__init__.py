"""Kernels: rows to Gram matrices."""

from sknk.kernels._activation import Activation
from sknk.kernels._algebra import Constant, Normalized, Product, Scale, Sum
from sknk.kernels._base import Kernel, KernelGradient
from sknk.kernels._dual import GELU, Erf, Rbf, Sin
from sknk.kernels._network import NNGP, NTK
from sknk.kernels._rectifier import ABReLU, Abs, LeakyReLU, ReLU

__all__ = [
    "GELU",
    "NNGP",
    "NTK",
    "ABReLU",
    "Abs",
    "Activation",
    "Constant",
    "Erf",
    "Kernel",
    "KernelGradient",
    "LeakyReLU",
    "Normalized",
    "Product",
    "Rbf",
    "ReLU",
    "Scale",
    "Sin",
    "Sum",
]
