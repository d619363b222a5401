"""Wrong labels of a network's training rows: FreeShap, influence functions, TRAK and TracInCP.

Two tasks, 2000 training rows each, a tenth of them with another label drawn by the seed, 500 clean
validation rows, three seeds. Sentences, subjective or objective: the 3000 most frequent words, a
mean of embeddings and a ReLU network. Pictures of clothes: a small convolutional network. Both are
trained by Adam on the noisy labels for a fixed number of epochs; nothing is chosen on other rows.

FreeShap is Shapley values of ridge classification on the network's pseudo-NTK, its ridge chosen by
leave-one-out on the noisy labels, Brier score on the validation rows; without them, the evidence of
the same machine. Beside it, on the same rows: influence functions, exact for that machine, and of
the network's last layer; TRAK; TracInCP over five checkpoints with the validation rows, and the
influence of rows on themselves, which needs none. ``SKNK_ATTRIBUTION_SEEDS`` restricts the seeds.
"""

import csv
import gzip
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _attribution import mislabelled, seeds
from _common import bar, main, rounded
from _network_baselines import last_layer_influence, trac_in, trac_in_self
from _tables import stored
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from sknk import NTKRidgeClassifierCV
from sknk.attribution import (
    InfluenceAttributor,
    LeaveOneOutAttributor,
    ShapleyAttributor,
    TRAKAttributor,
    find_label_errors,
)
from sknk.kernels import EmpiricalNTK

SEEDS, ROWS, JUDGED, TEST = 3, 2000, 500, 2000
TEXT, IMAGES = "subj", "fashion_train_0"
WORDS, WIDTH = 3000, 32
EPOCHS, BATCH, RATE, CHECKPOINTS = 10, 32, 1e-3, 5
RIDGES = np.logspace(-6, 2, 17)  # in units of the kernel's mean diagonal
ESTIMATES = {"brier": 16, "evidence": 12}
FREESHAP = "FreeShap"
OTHERS = {  # what FreeShap has to be above
    "influence functions": ("influence, kernel", "influence, last layer"),
    "TRAK": ("TRAK",),
    "TracInCP": ("TracInCP",),
    "rows' influence on themselves": ("TracInCP, self", "influence, last layer, self"),
}
SECONDS = 600.0

Lines = dict[str, Any]


class Task:
    """Rows of one seed, and the network trained on them.

    Parameters
    ----------
    X, y : ndarray of shape (N, d), (N,)
        All rows: word frequencies, or pixels.
    network : callable
        From the number of classes to a network that takes rows as they are.
    seed : int
    sizes : tuple of int
        Training, validation and test rows.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        network: Callable[[int], nn.Module],
        seed: int,
        sizes: tuple[int, int, int],
    ) -> None:
        rng = np.random.default_rng(seed)
        n, m, t = sizes
        train, val, test, _ = np.split(rng.permutation(len(X)), np.cumsum([n, m, t]))
        C = int(y.max()) + 1
        self.X, self.X_val, self.y_val = X[train], X[val], y[val]
        self.y, self.wrong = mislabelled(y[train], C, rng)
        torch.manual_seed(seed)
        self.module = network(C)
        self.checkpoints = self._trained()
        self.accuracy = float((self.outputs(X[test]).argmax(1).numpy() == y[test]).mean())
        fitted = self.outputs(self.X).argmax(1).numpy()
        self.fits = {
            "test_accuracy": rounded(self.accuracy),
            "right_labels_fitted": rounded(float((fitted == self.y)[~self.wrong].mean())),
            "wrong_labels_fitted": rounded(float((fitted == self.y)[self.wrong].mean())),
        }

    def tensor(self, X: np.ndarray) -> Tensor:
        """Return rows as the network takes them."""
        return torch.from_numpy(X).float()

    def outputs(self, X: np.ndarray) -> Tensor:
        """Return logits."""
        with torch.no_grad():
            return self.module(self.tensor(X))

    def _trained(self) -> list[dict[str, Tensor]]:
        """Train; return the weights at evenly spaced epochs, the last one included."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=RATE)
        x, labels = self.tensor(self.X), torch.from_numpy(self.y)
        kept = []
        for epoch in range(1, EPOCHS + 1):
            for batch in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.module(x[batch]), labels[batch])
                loss.backward()
                optimizer.step()
            if epoch % (EPOCHS // CHECKPOINTS) == 0:
                state = self.module.named_parameters()
                kept.append({name: p.detach().clone() for name, p in state})
        self.module.eval().requires_grad_(True)
        return kept


def bag_of_words(classes: int) -> nn.Sequential:
    """Return a network for word frequencies (n, WORDS): their mean embedding, a ReLU, outputs.

    The first layer is an embedding followed by a mean, the same numbers and tangents, but its
    kernel costs no sum over pairs of words.
    """
    embedding = nn.Linear(WORDS, WIDTH, bias=False)
    nn.init.normal_(embedding.weight)
    return nn.Sequential(embedding, nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))


def convolutional(classes: int) -> nn.Sequential:
    """Return a network for pixels (n, 784)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def sentences() -> tuple[np.ndarray, np.ndarray] | None:
    """Return word frequencies (N, WORDS) and labels, None without the file."""
    path = Path(os.environ.get("SKNK_DATA", "")) / "text" / f"{TEXT}.tsv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        found = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = [re.findall(r"[a-z']+", line[2].lower()) for line in found]
    # Frequencies tell nothing of labels, so all rows may count.
    common = Counter(word for words in texts for word in words).most_common(WORDS)
    number = {word: i for i, (word, _) in enumerate(common)}
    X = np.zeros((len(texts), WORDS))
    for row, words in zip(X, texts, strict=True):
        for word in words:
            if word in number:
                row[number[word]] += 1.0 / len(words)
    return X, np.array([int(line[0]) for line in found])


def pictures() -> tuple[np.ndarray, np.ndarray] | None:
    """Return pixels in [0, 1], (N, 784), and labels, None without the file."""
    tables, _ = stored([IMAGES])
    if not tables:
        return None
    X, y = tables[IMAGES]["X"], tables[IMAGES]["y"]
    return X.reshape(len(X), -1) / 255.0, y.astype(np.int64)


TASKS: dict[str, tuple[Callable[[], Any], Callable[[int], nn.Module]]] = {
    "text": (sentences, bag_of_words),
    "images": (pictures, convolutional),
}


def measure(quick: bool) -> dict[str, Any]:
    """Train networks, value their rows; tasks without data are named."""
    sizes = (150, 60, 200) if quick else (ROWS, JUDGED, TEST)
    tasks: Lines = {}
    absent = {}
    for name, (read, network) in TASKS.items():
        data = read()
        if data is None:
            absent[name] = "not in SKNK_DATA, or SKNK_DATA is not set"
            continue
        runs = []
        for seed in seeds(SEEDS, quick):
            runs.append(one_seed(Task(*data, network, seed, sizes), quick))
            print(f"{name}, seed {seed}: {runs[-1]}", flush=True)
        tasks[name] = over_seeds(runs)
        for who, area in tasks[name]["mean"].items():
            print(f"  {who:<32} {area:.4f}")
    return {
        "bars": bars(tasks),
        "absent_tasks": absent,
        "seeds": len(seeds(SEEDS, quick)),
        "rows": dict(zip(("train", "judged", "test"), sizes, strict=True)),
        "recipe": {"epochs": EPOCHS, "batch": BATCH, "rate": RATE, "checkpoints": CHECKPOINTS},
        "estimates": ESTIMATES,
        "tasks": tasks,
    }


def one_seed(task: Task, quick: bool) -> Lines:
    """Return areas under the ROC curve and seconds of everyone."""
    runs: list[tuple[tuple[str, ...], Callable[[], Any]]] = [
        ((FREESHAP,), lambda: shapley(task, "brier", quick)),
        (("FreeShap, evidence",), lambda: shapley(task, "evidence", quick)),
        (("find_label_errors",), lambda: -find_label_errors(machine(task), *data[:2]).suspicion_),
        (("leave-one-out, kernel",), lambda: LeaveOneOutAttributor(model).fit(*data).values_),
        (("influence, kernel",), lambda: InfluenceAttributor(model).fit(*data).values_),
        (("influence, last layer", "influence, last layer, self"), lambda: last_layer(task)),
        (("TRAK",), lambda: trak(task)),
        (("TracInCP",), lambda: traced(task)),
        (("TracInCP, self",), lambda: traced(task, own=True)),
    ]
    data = (task.X, task.y, task.X_val, task.y_val)
    model = FrozenEstimator(machine(task).fit(*data[:2]))
    areas, seconds = {}, {}
    for names, run in runs:
        start = time.perf_counter()
        found = run()
        spent = time.perf_counter() - start
        for name, values in zip(names, found if len(names) > 1 else (found,), strict=True):
            areas[name] = rounded(float(roc_auc_score(task.wrong, -np.asarray(values))))
            seconds[name] = rounded(spent)
    return {"areas": areas, "seconds": seconds, "network": task.fits}


def machine(task: Task) -> NTKRidgeClassifierCV:
    """Return ridge classification on the pseudo-NTK."""
    kernel = EmpiricalNTK(task.module, kind="pseudo")
    scale = float(np.mean(kernel.diag(task.X)))
    return NTKRidgeClassifierCV(kernel, alphas=RIDGES * scale)


def shapley(task: Task, utility: str, quick: bool) -> np.ndarray:
    """Return Shapley values, the choice of the ridge included."""
    n_iter = 10 if quick else ESTIMATES[utility]
    attributor = ShapleyAttributor(machine(task), utility=utility, n_iter=n_iter, random_state=0)
    judged = () if utility == "evidence" else (task.X_val, task.y_val)
    return attributor.fit(task.X, task.y, *judged).values_


def trak(task: Task) -> np.ndarray:
    """Return TRAK values, the last checkpoint only."""
    attributor = TRAKAttributor(task.module, task="classification")
    return attributor.fit(task.X, task.y, task.X_val, task.y_val).values_


def traced(task: Task, *, own: bool = False) -> np.ndarray:
    """Return TracInCP over the checkpoints."""
    train = task.tensor(task.X), torch.from_numpy(task.y)
    if own:
        return trac_in_self(task.module, task.checkpoints, RATE, train).numpy()
    judged = task.tensor(task.X_val), torch.from_numpy(task.y_val)
    return trac_in(task.module, task.checkpoints, RATE, train, judged).numpy()


def last_layer(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return influence of the last layer, on validation rows and of rows on themselves."""
    layer = [m for m in task.module.modules() if isinstance(m, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    f, f_val = task.outputs(task.X), task.outputs(task.X_val)
    hook.remove()
    judged = seen[1], f_val, torch.from_numpy(task.y_val)
    values, own = last_layer_influence(seen[0], f, torch.from_numpy(task.y), judged)
    return values.numpy(), own.numpy()


def over_seeds(runs: list[Lines]) -> Lines:
    """Return means over seeds, the best first, and all runs."""
    means = {
        who: rounded(float(np.mean([run["areas"][who] for run in runs])))
        for who in runs[0]["areas"]
    }
    return {
        "mean": dict(sorted(means.items(), key=lambda item: -item[1])),
        "seconds": {
            who: rounded(float(np.mean([run["seconds"][who] for run in runs]))) for who in means
        },
        "runs": runs,
    }


def bars(tasks: Lines) -> list[Lines]:
    """Judge FreeShap beside the best of each kind, and its seconds."""
    lines = []
    for task in TASKS:
        mean = tasks.get(task, {}).get("mean", {})
        for kind, names in OTHERS.items():
            value = mean[FREESHAP] - max(mean[name] for name in names) if mean else None
            lines.append(bar(f"{task}, AUROC above {kind}", value, 0.0, at_least=True))
        # Neither of these needs validation rows.
        kind = "rows' influence on themselves"
        value = mean["FreeShap, evidence"] - max(mean[w] for w in OTHERS[kind]) if mean else None
        lines.append(bar(f"{task}, evidence above {kind}", value, 0.0, at_least=True))
        value = tasks[task]["seconds"][FREESHAP] if mean else None
        lines.append(bar(f"{task}, seconds of FreeShap", value, SECONDS, at_least=False))
    return lines


if __name__ == "__main__":
    main(measure, __file__)
