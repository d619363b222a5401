"""Single results, kept as they come, so that an interrupted run goes on where it stopped.

One JSON line a fit, in `<script>.jsonl` beside the script's JSON file; it is not committed. A line
counts again only for the same key and the same settings; those of our own models include the
package's sources. Delete the file to measure everything anew.
"""

import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import ROOT, rounded

Result = dict[str, Any]


class Store:
    """Results by key.

    Parameters
    ----------
    folder : Path or None
        Where the file is; None keeps nothing.
    script : str
        The benchmark's ``__file__``.

    Attributes
    ----------
    reused, measured : int
        Results that an earlier run left, and those of this one.
    """

    def __init__(self, folder: Path | None, script: str) -> None:
        self._path = None if folder is None else folder / f"{Path(script).stem}.jsonl"
        self._known: dict[str, Result] = {}
        self.reused = self.measured = 0
        if self._path is not None and self._path.exists():
            for line in filter(None, self._path.read_text(encoding="utf-8").splitlines()):
                self._read(line)
            print(f"{len(self._known)} results from an earlier run in {self._path.name}")

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the process ended while it wrote
            print(f"an unfinished line is left out: {line[:60]}...")
            return
        self._known[_name(entry["key"], entry["settings"])] = entry["result"]

    def get(self, key: Any, settings: Any, fit: Callable[[], Result]) -> Result:
        """Return what is known, or the outcome of `fit`, which is kept unless it has failed."""
        name = _name(key, settings)
        if name in self._known:
            self.reused += 1
            return self._known[name]
        result = attempt(fit)
        self.measured += 1
        if "failed" not in result:
            self._known[name] = result
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                line = json.dumps({"key": key, "settings": settings, "result": result})
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"\n{line}")  # first the break: the line before may be unfinished
        return result

    def counts(self) -> dict[str, int]:
        """Return how many fits this run has measured, and how many it took from earlier ones."""
        return {"measured": self.measured, "from_earlier_runs": self.reused}


def _name(key: Any, settings: Any) -> str:
    return json.dumps([key, settings], sort_keys=True)


def attempt(fit: Callable[[], Result]) -> Result:
    """Run one fit; return its result with what it warned of, or the error that ended it."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = fit()
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            result = {"failed": f"{type(error).__name__}: {lines[0][:200]}"}
            print(f"failed: {result['failed']}", flush=True)
    seconds = rounded(time.perf_counter() - start)
    kinds = Counter(warning.category.__name__ for warning in caught)
    return result | {"seconds": seconds, "warnings": dict(kinds)}


def package_sources() -> str:
    """Return a hash of the package's modules, so that results of other ones do not count."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "sknk").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
