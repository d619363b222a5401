"""Files of results, a line of JSON each, that a run which was cut goes on with."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["append_line", "lines_of"]


def lines_of(path: Path | None) -> list[dict[str, Any]]:
    """Return the lines of a file, but for one that was cut; none without a file."""
    if path is None or not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # of a run that was cut while it wrote
            found.append(json.loads(line))
    return found


def append_line(path: Path | None, line: dict[str, Any]) -> None:
    """Append a line, if there is a file to append to."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))  # the line before may be unfinished
