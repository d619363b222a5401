"""Tables on which the defaults of the ridge classifier are chosen, and their splits.

None is a test table of `uci.py`, nor another version of its rows. Of the targets that `tables.py`
scores five are here cut into classes (machine, pendulum, servo, skillcraft, sml), and four of the
tables of `tables_mixed.py` are here (ad_data, adult_raw, connect_4, coil2000).
"""

from dataclasses import dataclass

import numpy as np
from _tables import stored

UCI121 = [
    "annealing",
    "audiology-std",
    "chess-krvk",
    "conn-bench-vowel-deterding",
    "hayes-roth",
    "hill-valley",
    "horse-colic",
    "letter",
    "magic",
    "monks-1",
    "monks-2",
    "monks-3",
    "mushroom",
    "nursery",
    "optical",
    "page-blocks",
    "pendigits",
    "ringnorm",
    "soybean",
    "spect",
    "spectf",
    "statlog-landsat",
    "statlog-shuttle",
    "thyroid",
    "twonorm",
    "wall-following",
]
OTHERS = [
    "covertype_20k",
    "poker_25k",
    "adult_raw",
    "wa_churn",
    "lending_club",
    "ad_data",
    "taxi",
    "stackoverflow",
    "penguins",
    "connect_4",
    "coil2000",
    "sleep",
    "fars",
    "sick_raw",
    "labor_raw",
    "sponge_raw",
    "solar_flare2_raw",
    "openml/2dplanes",
    "openml/click",
    "openml/fraud",
    "openml/credit_default",
    "openml/pol_bin",
    "esl",
    "swd",
    "lev",
    "era",
    "ucr_chinatown",
    "ucr_ecg200",
    "ucr_italypowerdemand",
    "ucr_medicalimages",
    "ucr_sonyaiborobotsurface1",
    "ucr_smoothsubspace",
    "ucr_powercons",
    "ucr_distalphalanxtw",
    "ucr_proximalphalanxoutlineagegroup",
    "ucr_melbournepedestrian",
]
# Regression tables with the target cut at its terciles, as energy-y1 and energy-y2 of arora90 were.
TERCILES = [
    "machine",
    "pbc",
    "pharynx",
    "pendulum",
    "sensory",
    "servo",
    "skillcraft",
    "stock",
    "triazines",
    "lowbwt",
    "veteran",
    "quake",
    "meta",
    "sml",
    "puma8nh",
    "sacramento",
    "tecator",
    "house_16h",
]
TABLES = (*(f"uci121/{name}" for name in UCI121), *OTHERS, *TERCILES)

SAME_ROWS = {
    "image-segmentation": "statlog-image",
    "clean2": "musk-1 (version 2 of the same data holds its molecules)",
    "arrhythmia_raw": "arrhythmia",
    "bank_raw": "bank",
    "breast_cancer_raw": "breast-cancer",
    "bridges_version2_raw": "pittsburg-bridges-*",
    "car_raw": "car",
    "cmc_raw": "contrac",
    "credit_a_raw": "credit-approval",
    "credit_g_raw": "statlog-german-credit",
    "cylinder_bands_raw": "cylinder-bands",
    "dermatology_raw": "dermatology",
    "flags_raw": "flags",
    "heart_c_raw": "heart-cleveland",
    "heart_h_raw": "heart-hungarian",
    "hepatitis_raw": "hepatitis",
    "kr_vs_kp_raw": "chess-krvkp",
    "lymph_raw": "lymphography",
    "postoperative_patient_data_raw": "post-operative",
    "primary_tumor_raw": "primary-tumor",
    "splice_raw": "molec-biol-splice",
    "tae_raw": "teaching",
    "tic_tac_toe_raw": "tic-tac-toe",
    "vote_raw": "congressional-voting",
    "ucr_syntheticcontrol": "synthetic-control",
    "energy": "energy-y1, energy-y2",
    "wine_red": "wine-quality-red",
    "breastcancer": "breast-cancer-wisc-prog",
    "fertility": "fertility",
    "cholesterol": "heart-cleveland",
    "echomonths": "echocardiogram",
}
"""Tables without the tag that hold the rows of one with it, and of which one."""

SIZES = (150, 300, 600)
"""Training rows of the three splits of a table, at most; the median table of arora90 has 460."""
MOST_TEST, MOST_TEST_MANY = 800, 400


@dataclass(frozen=True)
class Split:
    """One training and test part, columns standardized on the training rows."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def tuning_tables(names: tuple[str, ...] = TABLES) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (X, y) by name, missing values as column means, and why others are absent."""
    found, absent = stored(names)
    return {name: _prepared(name, table) for name, table in found.items()}, absent


def _prepared(name: str, table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    X, y = np.asarray(table["X"], dtype=np.float64), np.asarray(table["y"])
    if name in TERCILES:
        y = np.searchsorted(np.quantile(y, [1 / 3, 2 / 3]), y)
    means = np.nanmean(X, axis=0)
    return np.where(np.isnan(X), means, X), np.unique(y, return_inverse=True)[1]


def split_of(X: np.ndarray, y: np.ndarray, k: int) -> Split:
    """Return split k: at most SIZES[k] rows or three quarters, test rows of their classes."""
    order = np.random.RandomState(k).permutation(len(X))
    size = min(SIZES[k], 3 * len(X) // 4)
    train, test = order[:size], order[size:]
    test = test[np.isin(y[test], y[train])]
    classes, labels = np.unique(y[train], return_inverse=True)
    test = test[: MOST_TEST if len(classes) < 7 else MOST_TEST_MANY]
    mean, spread = X[train].mean(axis=0), X[train].std(axis=0)
    spread = np.where(spread > 1e-10 * (1.0 + np.abs(mean)), spread, 1.0)
    return Split(
        (X[train] - mean) / spread,
        labels,
        (X[test] - mean) / spread,
        np.searchsorted(classes, y[test]),
    )
