"""Progress on stderr for work that takes more than a few seconds."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress"]


def progress(items: Iterable[Any], *, verbose: int | bool, **options: Any) -> Iterable[Any]:
    """Iterate over items, with a tqdm bar if `verbose`; 0 prints nothing."""
    return tqdm(items, disable=not verbose, leave=False, **options)
