"""Kernels: rows to Gram matrices.

Every activation and layer is public under its own name: their modules say in ``__all__`` what they
have, so that a new one is added in one place.
"""

from sknk.kernels import (
    _angular,
    _arccosine,
    _compose,
    _convolution,
    _dual,
    _elu,
    _layers,
    _parallel,
    _polynomial,
    _pooling,
    _quadrature,
    _rectifier,
    _sigmoids,
    _singular,
    _waves,
)
from sknk.kernels._activation import Activation
from sknk.kernels._algebra import Constant, Normalized, Product, Scale, Sum
from sknk.kernels._angular import *
from sknk.kernels._arccosine import *
from sknk.kernels._base import Kernel, KernelGradient
from sknk.kernels._compose import *
from sknk.kernels._convolution import *
from sknk.kernels._dual import *
from sknk.kernels._elu import *
from sknk.kernels._empirical import EmpiricalNTK, Linearization, linearize
from sknk.kernels._layer import Layer
from sknk.kernels._layered import NetworkKernel
from sknk.kernels._layers import *
from sknk.kernels._mapped import Mapped
from sknk.kernels._network import NNGP, NTK
from sknk.kernels._parallel import *
from sknk.kernels._polynomial import *
from sknk.kernels._pooling import *
from sknk.kernels._quadrature import *
from sknk.kernels._rectifier import *
from sknk.kernels._sigmoids import *
from sknk.kernels._singular import *
from sknk.kernels._waves import *

__all__ = [
    "NNGP",
    "NTK",
    "Activation",
    "Constant",
    "EmpiricalNTK",
    "Kernel",
    "KernelGradient",
    "Layer",
    "Linearization",
    "Mapped",
    "NetworkKernel",
    "Normalized",
    "Product",
    "Scale",
    "Sum",
    "linearize",
]
__all__ += _dual.__all__
__all__ += _rectifier.__all__
__all__ += _compose.__all__
__all__ += _convolution.__all__
__all__ += _layers.__all__
__all__ += _parallel.__all__
__all__ += _pooling.__all__
__all__ += _waves.__all__
__all__ += _angular.__all__
__all__ += _arccosine.__all__
__all__ += _elu.__all__
__all__ += _polynomial.__all__
__all__ += _quadrature.__all__
__all__ += _sigmoids.__all__
__all__ += _singular.__all__
