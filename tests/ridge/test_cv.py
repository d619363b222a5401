from itertools import product

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV, KFold, ParameterGrid, StratifiedKFold

from sknk import NTKRidge, NTKRidgeClassifier, NTKRidgeClassifierCV, NTKRidgeCV
from sknk.kernels import NNGP, NTK
from tests.reference import ridge as oracle

GRID = {"depth": [1, 3], "bias_var": [0.0, 0.5]}
ALPHAS = [0.03, 0.3, 3.0]
# Refits and closed form: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8
# The oracle's search knows a temperature to the square root of eps.
LOSS_RTOL = 1e-6
FOLDS = KFold(3, shuffle=True, random_state=0)


def with_copies(table, *targets):
    """Return rows and targets, the first six twice, and weights with some zeros."""
    arrays = [np.concatenate([a, a[:6]]) for a in (table.X, *targets)]
    return *arrays, np.concatenate([table.repeats, np.full(6, 1.5)])


def squared_error(loo, Y, w):
    """Return the weighted mean squared error."""
    return np.average(((loo - Y) ** 2).mean(axis=1), weights=w)


def log_loss(loo, Y, w):
    """Return the log loss of classes coded -1 and 1 under a temperature of their own."""
    f, labels = (
        (np.hstack([-loo, loo]) / 2, (Y[:, 0] > 0) * 1) if Y.shape[1] == 1 else (loo, Y.argmax(1))
    )
    p = softmax(oracle.temperature(f, labels, w) * f, axis=1)
    p = (w.sum() * p + 1.0 / f.shape[1]) / (w.sum() + 1.0)
    return -np.average(np.log(p[np.arange(len(p)), labels]), weights=w)


def brute_force(table, X, Y, w, fit_intercept=True, *, counts=False, loss=squared_error):
    """Return {(depth, bias_var, alpha): minus the leave-one-out loss} by refitting."""
    scores = {}
    for params in ParameterGrid(GRID):
        K = NTK(**params)(X)
        for alpha in ALPHAS:
            copies = oracle.copies(X, Y)
            loo = oracle.leave_one_out(K, Y, w, copies, alpha, fit_intercept, counts=counts)
            scores[params["depth"], params["bias_var"], alpha] = -loss(loo, Y, w)
    return scores


def table_of(model):
    """Return {(depth, bias_var, alpha): score} of a fitted search."""
    lines = zip(model.cv_results_["params"], model.cv_results_["mean_test_score"], strict=True)
    return {(p["depth"], p["bias_var"], p["alpha"]): score for p, score in lines}


# --- leave-one-out -------------------------------------------------------------------------------


def test_search_chooses_as_brute_force(table, fit_intercept):
    X, Y, w = with_copies(table, table.Y)
    expected = brute_force(table, X, Y, w, fit_intercept)
    model = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS, fit_intercept=fit_intercept).fit(X, Y, w)
    found = table_of(model)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[k] for k in expected], list(expected.values()), rtol=RTOL)
    depth, bias_var, alpha = max(expected, key=expected.get)
    assert model.best_params_ == {"depth": depth, "bias_var": bias_var, "alpha": alpha}
    assert model.kernel_ == NTK(depth=depth, bias_var=bias_var)
    assert model.alpha_ == alpha
    assert model.best_score_ == pytest.approx(max(expected.values()), rel=RTOL)


def test_search_of_classifier_chooses_as_brute_force(table, fit_intercept):
    X, y, w = with_copies(table, table.classes)
    model = NTKRidgeClassifierCV(param_grid=GRID, alphas=ALPHAS, fit_intercept=fit_intercept)
    model.fit(X, y, w)
    signs = np.where(y[:, None] == model.classes_, 1.0, -1.0)
    expected = brute_force(table, X, signs, w, fit_intercept, loss=log_loss)
    found = table_of(model)
    np.testing.assert_allclose(
        [found[k] for k in expected], list(expected.values()), rtol=LOSS_RTOL
    )
    depth, bias_var, alpha = max(expected, key=expected.get)
    assert model.best_params_ == {"depth": depth, "bias_var": bias_var, "alpha": alpha}


def test_search_of_classifier_leaves_out_one_of_equal_rows(table, fit_intercept):
    # Rows that share a label coincide by chance, so a plain leave-one-out is right for them.
    X, y = table.X.repeat(table.repeats, axis=0), table.two.repeat(table.repeats)
    model = NTKRidgeClassifierCV(param_grid=GRID, alphas=ALPHAS, fit_intercept=fit_intercept)
    signs = np.where(y == "yes", 1.0, -1.0)[:, None]
    expected = brute_force(
        table, X, signs, np.ones(len(X)), fit_intercept, counts=True, loss=log_loss
    )
    for rows, labels, weights in ((X, y, None), (table.X, table.two, table.repeats)):
        found = table_of(model.fit(rows, labels, weights))
        np.testing.assert_allclose(
            [found[k] for k in expected], list(expected.values()), rtol=LOSS_RTOL
        )


@pytest.mark.parametrize("weights", [None, "repeats"])
def test_balanced_classifier_leaves_out_one_of_equal_rows(table, weights):
    # Class weights are no repetitions: a heavy class does not judge itself.
    y = np.where(np.arange(20) < 5, "rare", "usual")
    w = np.ones(20) if weights is None else table.repeats
    model = NTKRidgeClassifierCV(
        table.kernel, param_grid={}, alphas=[0.3], class_weight="balanced"
    ).fit(table.X, y, w)
    signs = np.where(y == "usual", 1.0, -1.0)[:, None]
    factor = np.array([w.sum() / (2.0 * w[y == c].sum()) for c in y])
    K = table.kernel(table.X)
    for i in np.flatnonzero(w):
        left = factor * (w - np.eye(20)[i])
        keep = np.flatnonzero(left)
        C, mean = oracle.fit(K[np.ix_(keep, keep)], signs[keep], left[keep], 0.3)
        wanted = (K[i, keep] @ C + mean).item()
        assert model.loo_predictions_[i] == pytest.approx(wanted, rel=RTOL)


def test_search_leave_one_out_equals_refits(table, fit_intercept):
    X, Y, w = with_copies(table, table.Y)
    model = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS, fit_intercept=fit_intercept).fit(X, Y, w)
    K, copies = model.kernel_(X), oracle.copies(X, Y)
    expected = oracle.leave_one_out(K, Y, w, copies, model.alpha_, fit_intercept)
    # Rows of weight zero were never in: their prediction is the model's.
    expected[w == 0] = model.predict(X)[w == 0]
    np.testing.assert_allclose(model.loo_predictions_, expected, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
def test_search_final_model_equals_single_fit(table, cls):
    y = table.Y if cls is NTKRidgeCV else table.classes
    single = NTKRidge if cls is NTKRidgeCV else NTKRidgeClassifier
    for cv in (None, FOLDS):
        search = cls(param_grid=GRID, alphas=ALPHAS, cv=cv).fit(table.X, y, table.weights)
        model = single(search.kernel_, alpha=search.alpha_).fit(table.X, y, table.weights)
        np.testing.assert_allclose(search.dual_coef_, model.dual_coef_, rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(search.intercept_, model.intercept_, rtol=RTOL)
        name = "predict" if cls is NTKRidgeCV else "predict_proba"
        found, expected = (getattr(m, name)(table.new) for m in (search, model))
        np.testing.assert_allclose(found, expected, rtol=RTOL)


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
def test_search_weights_equal_repetitions(table, cls, fit_intercept):
    r, y = table.repeats, table.y if cls is NTKRidgeCV else table.classes
    model = cls(param_grid=GRID, alphas=ALPHAS, fit_intercept=fit_intercept).fit(table.X, y, r)
    scores, loo = model.cv_results_["mean_test_score"], model.loo_predictions_.repeat(r, axis=0)
    predictions, choice = model.predict(table.new), model.best_params_
    model.fit(table.X.repeat(r, axis=0), y.repeat(r, axis=0))
    np.testing.assert_allclose(model.cv_results_["mean_test_score"], scores, rtol=1e-7)
    np.testing.assert_allclose(model.loo_predictions_, loo, rtol=1e-7)
    assert model.best_params_ == choice
    if cls is NTKRidgeCV:
        np.testing.assert_allclose(model.predict(table.new), predictions, rtol=1e-7)


def test_search_output_equals_one_by_one_at_one_choice(table):
    model = NTKRidgeCV(table.kernel, param_grid={}, alphas=[0.2])
    both = model.fit(table.X, table.Y)
    predictions, loo = both.predict(table.new), both.loo_predictions_
    for k in range(2):
        one = model.fit(table.X, table.Y[:, k])
        assert one.loo_predictions_.shape == (20,)
        np.testing.assert_allclose(one.predict(table.new), predictions[:, k], rtol=RTOL)
        np.testing.assert_allclose(one.loo_predictions_, loo[:, k], rtol=RTOL)


def test_search_of_column_target_keeps_its_shape(table):
    model = NTKRidgeCV(table.kernel, param_grid={}, alphas=[0.2]).fit(table.X, table.y[:, None])
    assert model.predict(table.new).shape == (7, 1)
    assert model.loo_predictions_.shape == (20, 1)


@pytest.mark.parametrize("cls", [NTKRidgeCV, NTKRidgeClassifierCV])
@pytest.mark.parametrize("cv", [None, FOLDS], ids=["loo", "folds"])
def test_search_precomputed_equals_kernel_object(table, cls, cv):
    # Copies are found in a Gram matrix too, where rounding tells their rows apart.
    X, y, w = with_copies(table, table.y if cls is NTKRidgeCV else table.two)
    gram = cls("precomputed", alphas=ALPHAS, cv=cv).fit(table.kernel(X), y, w)
    model = cls(table.kernel, alphas=ALPHAS, param_grid={}, cv=cv).fit(X, y, w)
    assert gram.best_params_ == model.best_params_ == {"alpha": model.alpha_}
    found, expected = (m.cv_results_["mean_test_score"] for m in (gram, model))
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    np.testing.assert_allclose(gram.loo_predictions_, model.loo_predictions_, rtol=1e-7)


def test_search_takes_sklearn_kernels(table):
    kernel = ConstantKernel(1.0) * RBF() + WhiteKernel(0.1)
    grid = {"k1__k2__length_scale": [0.3, 3.0], "k2__noise_level": [0.1, 1.0]}
    model = NTKRidgeCV(kernel, param_grid=grid, alphas=ALPHAS).fit(table.X, table.y)
    best = model.best_params_
    expected = clone(kernel).set_params(**{k: v for k, v in best.items() if k != "alpha"})
    assert model.kernel_ == expected
    for params, score in zip(
        model.cv_results_["params"], model.cv_results_["mean_test_score"], strict=True
    ):
        K = clone(kernel).set_params(**{k: v for k, v in params.items() if k != "alpha"})(table.X)
        loo = oracle.leave_one_out(K, table.y[:, None], np.ones(20), np.arange(20), params["alpha"])
        assert score == pytest.approx(-np.mean((loo[:, 0] - table.y) ** 2), rel=RTOL)


def test_search_keeps_its_kernel_parameter(table):
    kernel = NTK(depth=5)
    model = NTKRidgeCV(kernel, param_grid={"depth": [1]}, alphas=[1.0]).fit(table.X, table.y)
    assert kernel.depth == 5
    assert model.kernel_.depth == 1


# --- the grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [None, NTK(activation="erf")], ids=repr)
def test_search_default_grid_is_the_documented_one(table, kernel):
    model = NTKRidgeCV(kernel).fit(table.X, table.y)
    params = model.cv_results_["params"]
    found = {(p["depth"], p["bias_var"], p["fixed_depth"], p["alpha"]) for p in params}
    alphas = np.logspace(-8, 2, 21)
    kinds = [(depth, fixed) for depth in (1, 2) for fixed in (0, depth)]
    assert found == {
        (depth, bias_var, fixed, alpha)
        for (depth, fixed), bias_var, alpha in product(kinds, (0.0, 1.0, 10.0), alphas)
    }
    assert len(params) == 12 * 21
    assert model.kernel_.activation == (kernel or NTK()).activation


def test_search_default_grid_of_classifiers_is_the_documented_one(table):
    params = NTKRidgeClassifierCV().fit(table.X, table.two).cv_results_["params"]
    found = {(p["depth"], p["bias_var"], p["alpha"]) for p in params}
    assert found == set(product((1, 3, 8), (0.1, 1.0, 10.0), np.logspace(-4, 2, 13)))
    assert len(params) == 9 * 13


@pytest.mark.parametrize("kernel", [NNGP(), RBF(), NTK() + NNGP()], ids=repr)
def test_search_default_grid_of_other_kernels_is_the_kernel(table, kernel):
    model = NTKRidgeCV(kernel).fit(table.X, table.y)
    assert model.kernel_ == kernel
    assert [p["alpha"] for p in model.cv_results_["params"]] == np.logspace(-8, 2, 21).tolist()
    assert set(model.best_params_) == {"alpha"}


def test_search_grid_may_be_a_list_of_grids(table):
    grids = [{"depth": [1]}, {"bias_var": [0.1, 0.3], "activation": ["erf"]}]
    model = NTKRidgeCV(param_grid=grids, alphas=[0.1]).fit(table.X, table.y)
    expected = GridSearchCV(NTKRidge(NTK()), [{f"kernel__{k}": v for k, v in g.items()}
                                              for g in grids]).fit(table.X, table.y)  # fmt: skip
    for name in ("depth", "bias_var", "activation"):
        ours, theirs = (
            model.cv_results_[f"param_{name}"],
            expected.cv_results_[f"param_kernel__{name}"],
        )
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        assert ours[~ours.mask].tolist() == theirs[~theirs.mask].tolist()


def test_search_over_kernels_of_a_sum(table):
    model = NTKRidgeCV(NTK() + NNGP(), param_grid={"k1__depth": [1, 2]}, alphas=[0.1])
    model.fit(table.X, table.y)
    assert model.kernel_.k1.depth == model.best_params_["k1__depth"]
    assert np.ptp(model.cv_results_["mean_test_score"]) > 0


def test_search_order_of_alphas_changes_nothing(table):
    one = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS).fit(table.X, table.y)
    two = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS[::-1]).fit(table.X, table.y)
    assert one.best_params_ == two.best_params_
    np.testing.assert_allclose(one.predict(table.new), two.predict(table.new), rtol=RTOL)


def test_search_ties_go_to_the_first_line(table):
    grid = {"depth": [2, 2], "bias_var": [0.1, 0.1]}
    model = NTKRidgeCV(param_grid=grid, alphas=[0.1]).fit(table.X, table.y)
    assert model.best_index_ == 0
    np.testing.assert_array_equal(model.cv_results_["rank_test_score"], np.ones(4))


# --- folds ---------------------------------------------------------------------------------------


def test_search_makes_stratified_folds_for_classes(table):
    model = NTKRidgeClassifierCV(param_grid=GRID, alphas=ALPHAS, cv=3).fit(table.X, table.two)
    explicit = clone(model).set_params(cv=StratifiedKFold(3)).fit(table.X, table.two)
    for name in ("mean_test_score", "split2_test_score"):
        np.testing.assert_array_equal(model.cv_results_[name], explicit.cv_results_[name])


@pytest.mark.parametrize("kind", ["arrays", "lists", "masks", "generator"])
def test_search_takes_folds_in_any_form(table, kind):
    pairs = list(FOLDS.split(table.X))
    masks = [tuple(np.isin(np.arange(20), part) for part in pair) for pair in pairs]
    lists = [tuple(part.tolist() for part in pair) for pair in pairs]
    cv = {"arrays": pairs, "lists": lists, "masks": masks, "generator": iter(pairs)}[kind]
    model = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS, cv=cv).fit(table.X, table.y)
    expected = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS, cv=FOLDS).fit(table.X, table.y)
    found = model.cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected.cv_results_["mean_test_score"], rtol=1e-12)


def test_search_by_leave_one_out_folds_equals_closed_form(table):
    folds = KFold(20)
    one = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS, cv=folds).fit(table.X, table.Y)
    two = NTKRidgeCV(param_grid=GRID, alphas=ALPHAS).fit(table.X, table.Y)
    found, expected = (m.cv_results_["mean_test_score"] for m in (one, two))
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    np.testing.assert_allclose(one.loo_predictions_, two.loo_predictions_, rtol=RTOL)
