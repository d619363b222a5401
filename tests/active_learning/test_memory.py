"""What selectors hold beside the features: one table of their size."""

import json
import os
import subprocess
import sys

import pytest

N, WIDTH, T = 120_000, 256, 600  # 123 MB in float32
BYTES = 4 * (N + T) * WIDTH
BLOCK = 4 * 2**22  # of features or covariances that are held at once

# Prints by how many bytes a fresh process's peak grows, beyond first calls on a few rows.
WORKER = f"""
import json
from pathlib import Path
import numpy as np
from sknk.active_learning import ACSFeatures, select_batch

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

draw = np.random.default_rng(0).standard_normal
pool, train = (draw((n, {WIDTH}), dtype=np.float32) for n in ({N}, {T}))
calls = {{
    "maxdet-P": dict(method="maxdet", mode="P"),
    "maxdet-P, few given": dict(method="maxdet", mode="P", X_train=train[:200]),
    "maxdet-P, candidates": dict(method="maxdet", mode="P", candidates=np.arange({N})),
    "bait": dict(method="bait"),
    "frank-wolfe": dict(method="frank-wolfe"),
    "acs": dict(method="frank-wolfe", transforms=[ACSFeatures({WIDTH})]),
    "lcmd-TP": dict(method="lcmd", mode="TP"),
    "lcmd-P": dict(method="lcmd", mode="P"),
}}
grown = {{}}
for name, options in calls.items():
    options = dict(batch_size=3, noise_variance=0.1, X_train=train) | options
    select_batch(pool[:700], **options | dict(candidates=None))
    Path("/proc/self/clear_refs").write_text("5")  # lets the peak start anew
    before = resident("VmRSS:")
    select_batch(pool, **options)
    grown[name] = resident("VmHWM:") - before
print(json.dumps(grown))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_selectors_hold_one_copy_of_features():
    # Blocks that are freed go back to the kernel at once: how many of them glibc's heap keeps is
    # chance.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run([sys.executable, "-c", WORKER], env=env, capture_output=True, check=True)
    # Beside the copy a sixteenth of the rows, which are followed, and a few numbers for each; a
    # block is read, mapped, squared and summed.
    allowed = 1.2 * BYTES + 4 * BLOCK
    assert {name: n for name, n in json.loads(done.stdout).items() if n > allowed} == {}
    assert allowed < 1.8 * BYTES  # two copies would be too many
