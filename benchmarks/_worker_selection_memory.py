"""Worker: seconds and peak memory of LCMD, in a process that has done nothing else.

Arguments: rows n, features d, rows of a batch. Features are float32, of 20 dimensions bent into d.
Prints JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from sknk.active_learning import select_batch


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


n, d, batch = map(int, sys.argv[1:4])
rng = np.random.default_rng(0)
mixing = (rng.standard_normal((20, d)) / 20**0.5).astype(np.float32)
Phi = np.empty((n, d), dtype=np.float32)
for start in range(0, n, 10_000):
    part = Phi[start : start + 10_000]
    np.tanh(rng.standard_normal((len(part), 20), dtype=np.float32) @ mixing, out=part)

select_batch(Phi[:1000], method="lcmd", batch_size=2)  # thread pools belong to no batch
Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far, forgotten
before, clock = resident("VmRSS:"), time.perf_counter()
select_batch(Phi, method="lcmd", batch_size=batch)
seconds = time.perf_counter() - clock
found = {"seconds": round(seconds, 3), "bytes_beyond_the_features": resident("VmHWM:") - before}
print(json.dumps(found))
