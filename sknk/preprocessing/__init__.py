"""Tables of numbers and categories, prepared for kernel machines."""

from sknk.preprocessing._clip import SmoothClip
from sknk.preprocessing._tabular import tabular_pipeline

__all__ = ["SmoothClip", "tabular_pipeline"]
