"""What ``import sknk`` costs beside ``import torch, sklearn``, in fresh processes, in turn.

Seconds are those of the import statement, without the start of the interpreter. `sklearn` imports
its submodules lazily; those that sknk needs are counted against sknk here, not given for nothing.
"""

import json
import statistics
import subprocess
import sys
from typing import Any

from _common import bar, interleave, main, ratio, summary

STATEMENTS = {"sknk": "import sknk", "torch, sklearn": "import torch, sklearn"}
_TIME = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
_MODULES = "import sys, json; {}; print(json.dumps(sorted(sys.modules)))"


def measure(quick: bool) -> dict[str, Any]:
    """Time both statements in turn and list what each loads."""
    runs = {
        name: (lambda words=statement: float(python(_TIME.format(words))))
        for name, statement in STATEMENTS.items()
    }
    seconds = interleave(runs, 5 if quick else 25, pause=0.0, warm=2)
    loaded = {
        name: set(json.loads(python(_MODULES.format(statement))))
        for name, statement in STATEMENTS.items()
    }
    tops = {name: third_party(modules) for name, modules in loaded.items()}
    # What scikit-learn's own modules bring along when sknk loads them: not sknk's choice.
    needed = sorted(m for m in loaded["sknk"] if m.partition(".")[0] == "sklearn")
    lazy = f"import importlib, torch; [importlib.import_module(m) for m in {needed}]"
    brought = third_party(set(json.loads(python(_MODULES.format(lazy))))) - tops["torch, sklearn"]
    extra = sorted(tops["sknk"] - tops["torch, sklearn"])
    ours, theirs = seconds["sknk"], seconds["torch, sklearn"]
    for name, values in seconds.items():
        line = summary(values)
        print(f"import {name:<18}{line['median']:.3f} s  (least {line['min']:.3f})")
    print(
        "loaded by sknk alone:",
        ", ".join(extra) or "nothing",
        f"(by scikit-learn: {sorted(brought)})",
    )
    more = loaded["sknk"] - loaded["torch, sklearn"]
    return {
        "bars": [
            bar(
                "import time ratio, medians",
                ratio(ours, theirs)["of_medians"],
                1.15,
                at_least=False,
            ),
            bar("import time ratio, minima", min(ours) / min(theirs), 1.15, at_least=False),
            bar("third-party packages loaded by sknk alone", len(extra), 0, at_least=False),
        ],
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "seconds_more_median": round(statistics.median(ours) - statistics.median(theirs), 4),
        "third_party_packages": {name: sorted(found) for name, found in tops.items()},
        "loaded_by_sknk_alone": extra,
        "of_these_by_modules_of_scikit_learn": sorted(brought & set(extra)),
        "modules_loaded_by_sknk_alone": {
            top: sum(name.partition(".")[0] == top for name in more)
            for top in sorted({name.partition(".")[0] for name in more})
        },
    }


def python(code: str) -> str:
    """Run a line of Python in a fresh process, away from this folder."""
    words = [sys.executable, "-P", "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def third_party(modules: set[str]) -> set[str]:
    """Return top-level packages that are neither of the standard library nor ours."""
    tops = {name.partition(".")[0] for name in modules}
    return {t for t in tops - sys.stdlib_module_names - {"sknk"} if not t.startswith("__")}


if __name__ == "__main__":
    main(measure, __file__)
