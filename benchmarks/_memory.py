"""Resident memory of this process; standard library only, for workers of every environment."""

import resource
import sys
from pathlib import Path

__all__ = ["forget_peak", "resident"]


def resident(*, peak: bool) -> int:
    """Return the resident set, or its high-water mark, in bytes.

    Linux keeps the mark of ru_maxrss across exec, so a child starts at its parent's; the status
    file counts this process alone. Elsewhere ru_maxrss has to do.
    """
    path = Path("/proc/self/status")
    if path.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        lines = path.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def forget_peak() -> None:
    """Let the high-water mark start anew; Linux only."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
