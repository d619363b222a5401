"""Our kernels in scikit-learn's kernel machines, nothing adapted."""

from typing import ClassVar

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import KernelPCA
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC

from sknk import _config
from sknk.kernels import NNGP, NTK, Normalized, Scale

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = scale(IRIS)
DIABETES, PROGRESS = (scale(a[:120]) for a in load_diabetes(return_X_y=True))


class Spy(NTK):
    """Counts tiles; the list is not a parameter, so clones share it."""

    seen: ClassVar[list] = []

    def _tile(self, rx, ry, values):
        self.seen.append(rx is ry)
        return super()._tile(rx, ry, values)


@pytest.fixture
def spy():
    Spy.seen.clear()
    with _config.config_context(tile_size=50):
        yield Spy(depth=1)


FITS = {  # how, and how many Gram matrices the tool asks for
    "SVC": (lambda k: SVC(kernel=k).fit(IRIS, SPECIES), 1),
    "KernelRidge": (lambda k: KernelRidge(kernel=k).fit(IRIS, SPECIES), 1),
    "KernelPCA": (lambda k: KernelPCA(2, kernel=k).fit(IRIS), 1),
    "Nystroem": (lambda k: Nystroem(k, n_components=150).fit(IRIS), 1),
    "Spectral": (lambda k: SpectralClustering(3, affinity=k, random_state=0).fit(IRIS), 1),
    "GPR": (lambda k: GaussianProcessRegressor(k, optimizer=None, alpha=1.0).fit(IRIS, SPECIES), 2),
}


@pytest.mark.parametrize(("fit", "grams"), FITS.values(), ids=FITS)
def test_symmetric_calls_evaluate_one_triangle(spy, fit, grams):
    fit(spy)
    assert len(Spy.seen) == 6 * grams  # 150 rows in tiles of 50: 3 diagonal and 3 below, of 9
    assert sum(Spy.seen) == 3 * grams


def test_svc_equals_a_precomputed_gram():
    kernel = NTK(depth=2, bias_var=0.1)
    direct = SVC(kernel=kernel).fit(IRIS[::2], SPECIES[::2])
    stored = SVC(kernel="precomputed").fit(kernel(IRIS[::2]), SPECIES[::2])
    found, wanted = direct.predict(IRIS[1::2]), stored.predict(kernel(IRIS[1::2], IRIS[::2]))
    np.testing.assert_array_equal(found, wanted)
    assert (found == SPECIES[1::2]).mean() > 0.93


def test_kernel_ridge_solves_the_normal_equations():
    kernel = NTK(depth=2)
    model = KernelRidge(kernel=kernel, alpha=0.5).fit(DIABETES, PROGRESS)
    wanted = np.linalg.solve(kernel(DIABETES) + 0.5 * np.eye(120), PROGRESS)
    np.testing.assert_allclose(model.dual_coef_, wanted, rtol=1e-9)
    np.testing.assert_allclose(model.predict(DIABETES), kernel(DIABETES) @ wanted, rtol=1e-9)


def test_kernel_pca_reconstructs_the_centred_gram():
    kernel = NTK(depth=1)
    scores = KernelPCA(kernel=kernel).fit_transform(DIABETES[:40])
    centre = np.eye(40) - 1 / 40
    np.testing.assert_allclose(
        scores @ scores.T, centre @ kernel(DIABETES[:40]) @ centre, atol=1e-9
    )


def test_nystroem_is_exact_with_all_rows():
    kernel = NTK(depth=2, bias_var=0.1)
    features = Nystroem(kernel, n_components=60, random_state=0).fit_transform(DIABETES[:60])
    np.testing.assert_allclose(features @ features.T, kernel(DIABETES[:60]), atol=1e-9)


def test_spectral_clustering_separates_two_rays():
    rng = np.random.default_rng(0)
    centres = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    X = rng.uniform(1, 3, (40, 1)) * (centres + 0.05 * rng.standard_normal((40, 2)))
    labels = SpectralClustering(2, affinity=Normalized(NTK(depth=3)), random_state=0).fit_predict(X)
    assert len(set(labels[:20])) == len(set(labels[20:])) == 1
    assert labels[0] != labels[-1]


@pytest.mark.parametrize(
    "kernel",
    [
        Scale(NTK(depth=2, bias_var=0.1), 0.1),
        ConstantKernel(0.1) * NTK(depth=2, bias_var=0.1),
        NTK(depth=1, bias_var=0.5, input_scale=[1.0, 1.0, 1.0], input_scale_bounds=(1e-2, 1e2)),
        Scale(NTK(depth=1) + NNGP(depth=1, bias_var=2.0), 3.0),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:The optimal value:sklearn.exceptions.ConvergenceWarning")
def test_gaussian_process_regressor_moves_theta_uphill(kernel):
    model = GaussianProcessRegressor(kernel, alpha=0.5).fit(DIABETES[:60, 2:5], PROGRESS[:60])
    start = kernel.theta
    assert np.abs(model.kernel_.theta - start).max() > 0.1
    assert model.log_marginal_likelihood_value_ > model.log_marginal_likelihood(start) + 0.1
    np.testing.assert_array_equal(kernel.theta, start)  # the user's object stays


@pytest.mark.filterwarnings("ignore:The optimal value:sklearn.exceptions.ConvergenceWarning")
def test_gaussian_process_regressor_stops_at_a_stationary_point():
    kernel = Scale(NTK(depth=1, bias_var=0.5), 0.3) + 0.1
    model = GaussianProcessRegressor(kernel, alpha=0.5).fit(DIABETES, PROGRESS)
    gradient = model.log_marginal_likelihood(model.kernel_.theta, eval_gradient=True)[1]
    low, high = (np.isclose(model.kernel_.theta, b, atol=1e-3) for b in model.kernel_.bounds.T)
    assert (np.abs(gradient[~low & ~high]) < 1e-2).all()  # L-BFGS-B's projected gradient
    assert (gradient[low] <= 0).all()
    assert (gradient[high] >= 0).all()


def test_gaussian_process_learns_noise_beside_ours():
    kernel = Scale(NTK(depth=1)) + WhiteKernel(1.0)
    model = GaussianProcessRegressor(kernel).fit(DIABETES, PROGRESS)
    mean, std = model.predict(DIABETES[:5], return_std=True)
    assert 0.2 < model.kernel_.k2.noise_level < 1.0  # the table explains about half its variance
    assert np.isfinite(mean).all()
    assert (std > 0).all()


def test_gaussian_process_classifier_optimizes_and_predicts():
    kernel = Scale(NTK(depth=1, bias_var=0.1))
    model = GaussianProcessClassifier(kernel, max_iter_predict=20).fit(IRIS[50::2], SPECIES[50::2])
    assert not np.allclose(model.kernel_.theta, kernel.theta, atol=0.1)
    assert model.score(IRIS[51::2], SPECIES[51::2]) > 0.9
    np.testing.assert_allclose(model.predict_proba(IRIS).sum(1), 1.0)


def test_grid_search_varies_the_depth():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC(kernel=NTK())),
        {"svc__kernel__depth": [1, 2, 4], "svc__kernel__bias_var": [0.0, 0.5]},
        cv=3,
    ).fit(IRIS, SPECIES)
    assert search.best_score_ > 0.93
    assert search.best_estimator_[-1].kernel.depth == search.best_params_["svc__kernel__depth"]
    assert len(set(search.cv_results_["mean_test_score"])) > 1  # the parameters reach the Gram


def test_grid_search_reaches_nested_parameters():
    search = GridSearchCV(
        KernelRidge(kernel=NTK(depth=1) + 2.0 * NNGP(depth=1)),
        {"kernel__k2__kernel__depth": [1, 5], "kernel__k2__scale": [0.5, 2.0]},
        cv=3,
    ).fit(DIABETES, PROGRESS)
    assert len(set(search.cv_results_["mean_test_score"])) == 4


@pytest.mark.slow  # starts interpreters
def test_kernels_travel_to_other_processes():
    search = GridSearchCV(KernelRidge(kernel=NTK()), {"kernel__depth": [1, 2]}, cv=2, n_jobs=2)
    assert search.fit(DIABETES[:60], PROGRESS[:60]).best_params_["kernel__depth"] in (1, 2)
