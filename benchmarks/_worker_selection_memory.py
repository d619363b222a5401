"""Worker: seconds and peak memory of LCMD, in a process that has done nothing else.

Arguments: rows n, features d, rows of a batch. Features are float32, of 20 dimensions bent into d.
Prints JSON.
"""

import json
import sys
import time

import numpy as np
from _memory import forget_peak, resident

from sknk.active_learning import select_batch

n, d, batch = map(int, sys.argv[1:4])
rng = np.random.default_rng(0)
mixing = (rng.standard_normal((20, d)) / 20**0.5).astype(np.float32)
Phi = np.empty((n, d), dtype=np.float32)
for start in range(0, n, 10_000):
    part = Phi[start : start + 10_000]
    np.tanh(rng.standard_normal((len(part), 20), dtype=np.float32) @ mixing, out=part)

select_batch(Phi[:1000], method="lcmd", batch_size=2)  # thread pools belong to no batch
forget_peak()
before, clock = resident(peak=False), time.perf_counter()
select_batch(Phi, method="lcmd", batch_size=batch)
seconds = time.perf_counter() - clock
found = {"seconds": round(seconds, 3), "bytes_beyond_the_features": resident(peak=True) - before}
print(json.dumps(found))
