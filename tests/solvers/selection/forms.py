"""Features to choose from, and every selector as one function of Gram operator, size and given."""

import numpy as np
import torch

from sknk.solvers import (
    frank_wolfe,
    k_means_plus_plus,
    largest_cells,
    least_variance,
    max_det,
    max_dist,
)

N, WIDTH, NOISE = 40, 6, 0.05
NONE = torch.zeros(0, dtype=torch.long)


def rows(n, width=WIDTH, seed=0):
    """Features (n, width) of decaying scale, around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, width))
    Phi = centres[rng.integers(5, size=n)] + 0.5 * rng.standard_normal((n, width))
    return torch.from_numpy(Phi * 0.8 ** np.arange(width))


def generator(seed=0):
    """A private generator."""
    return torch.Generator().manual_seed(seed)


def _max_det(gram, size, given=NONE):
    return max_det(gram, size, given=given, noise_variance=NOISE)


def _max_dist(gram, size, given=NONE):
    return max_dist(gram, size, given=given)


def _largest_cells(gram, size, given=NONE):
    return largest_cells(gram, size, given=given)


def _k_means_plus_plus(gram, size, given=NONE):
    return k_means_plus_plus(gram, size, given=given, generator=generator())


def _least_variance(gram, size, given=NONE):
    return least_variance(gram, size, given=given, noise_variance=NOISE)


def _backward(gram, size, given=NONE):
    options = {"noise_variance": NOISE, "forward": 2 * size}
    return least_variance(gram, size, given=given, **options)


def _frank_wolfe(gram, size, given=NONE):
    """Of the rows that are not given: it knows no others."""
    open_ = torch.ones(gram.shape[0], dtype=torch.bool, device=gram.device)
    open_[given] = False
    pool = open_.nonzero().squeeze(1)
    return pool[frank_wolfe(gram.restrict(pool), size)]


SELECTORS = {
    "max_det": _max_det,
    "max_dist": _max_dist,
    "largest_cells": _largest_cells,
    "k_means_plus_plus": _k_means_plus_plus,
    "least_variance": _least_variance,
    "least_variance_backward": _backward,
    "frank_wolfe": _frank_wolfe,
}
DISTANCES = ["max_dist", "largest_cells", "k_means_plus_plus"]
