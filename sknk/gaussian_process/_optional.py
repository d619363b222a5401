"""gpytorch, an optional package: imported where it is used, with a message where it is missing."""

import warnings
from importlib import import_module

__all__ = ["require_gpytorch"]


def require_gpytorch(what: str) -> None:
    """Import gpytorch, or say who needs it.

    Parameters
    ----------
    what : str
        What the user asked for, for the message.

    Raises
    ------
    ImportError
        If gpytorch is not installed.
    """
    try:
        with (
            warnings.catch_warnings()
        ):  # linear_operator scripts functions with a deprecated torch.jit
            warnings.simplefilter("ignore")
            import_module("gpytorch")
    except ImportError as error:
        raise ImportError(
            f"{what} needs gpytorch; install it with `pip install 'sknk[gpytorch]'`."
        ) from error
