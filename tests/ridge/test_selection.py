import numpy as np
import pytest
import sklearn
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

from sknk import NTKRidge, NTKRidgeClassifier, NTKRidgeClassifierCV, NTKRidgeCV
from sknk.kernels import NTK

GRID = {"depth": [1, 3]}
ALPHAS = [0.03, 0.3, 3.0]
# Folds by weights of zero and by refits: float64 rounding times condition numbers below 1e4.
RTOL = 1e-8


def folds_of(target):
    kind = KFold if target in ("y", "Y", "labels") else StratifiedKFold
    return kind(3, shuffle=True, random_state=1)


def both_searches(target, scoring):
    """Return our search and scikit-learn's over the same grid and folds, unfitted."""
    classes = target in ("two", "classes", "labels")
    ours, single = (NTKRidgeClassifierCV, NTKRidgeClassifier) if classes else (NTKRidgeCV, NTKRidge)
    grid = {"kernel__depth": GRID["depth"], "alpha": ALPHAS}
    folds = folds_of(target)
    return (
        ours(param_grid=GRID, alphas=ALPHAS, cv=folds, scoring=scoring),
        GridSearchCV(single(NTK()), grid, cv=folds, scoring=scoring),
    )


def lines_of(results, prefix=""):
    """Return the lines of a table of results by (depth, alpha)."""
    return {(p[f"{prefix}depth"], p["alpha"]): k for k, p in enumerate(results["params"])}


def assert_same_table(model, search):
    ours, theirs = model.cv_results_, search.cv_results_
    mine, other = lines_of(ours), lines_of(theirs, "kernel__")
    assert mine.keys() == other.keys()
    mine, other = list(mine.values()), [other[key] for key in mine]
    for name in [*(f"split{k}_test_score" for k in range(3)), "mean_test_score", "std_test_score"]:
        np.testing.assert_allclose(ours[name][mine], theirs[name][other], rtol=RTOL, atol=1e-12)
    np.testing.assert_array_equal(ours["rank_test_score"][mine], theirs["rank_test_score"][other])


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "neg_mean_absolute_error"])
@pytest.mark.parametrize("target", ["y", "Y"])
def test_folds_score_as_grid_search_of_regressor(table, target, scoring):
    model, search = both_searches(target, scoring)
    y = getattr(table, target)
    assert_same_table(model.fit(table.X, y), search.fit(table.X, y))
    best = {"depth": search.best_params_["kernel__depth"], "alpha": search.best_params_["alpha"]}
    assert model.best_params_ == best
    np.testing.assert_allclose(model.predict(table.new), search.predict(table.new), rtol=RTOL)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro"])
@pytest.mark.parametrize("target", ["two", "classes"])
def test_folds_score_as_grid_search_of_classifier(table, target, scoring):
    model, search = both_searches(target, scoring)
    y = getattr(table, target)
    assert_same_table(model.fit(table.X, y), search.fit(table.X, y))
    assert model.score(table.X, y) == pytest.approx(accuracy_score(y, model.predict(table.X)))


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision", "neg_brier_score"])
def test_folds_score_as_grid_search_of_two_classes(table, scoring):
    y = (table.two == "yes").astype(int)
    model, search = both_searches("two", scoring)
    assert_same_table(model.fit(table.X, y), search.fit(table.X, y))


@pytest.mark.parametrize("scoring", ["accuracy", "f1_micro"])
def test_folds_score_as_grid_search_of_labels(table, scoring):
    model, search = both_searches("labels", scoring)
    assert_same_table(model.fit(table.X, table.labels), search.fit(table.X, table.labels))


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_folds_score_as_grid_search_when_rows_have_copies(table, scoring):
    # Copies inside a fold weigh twice; copies across folds are trained on, as the user asked.
    X, y = np.tile(table.X, (2, 1)), np.tile(table.classes, 2)
    model, search = both_searches("classes", scoring)
    assert_same_table(model.fit(X, y), search.fit(X, y))


@pytest.mark.parametrize(
    ("target", "name", "metric", "options"),
    [
        ("y", "r2", r2_score, {}),
        ("classes", "accuracy", accuracy_score, {}),
        ("classes", "neg_log_loss", log_loss, {"response_method": "predict_proba"}),
    ],
)
def test_folds_score_as_grid_search_with_routed_weights(table, target, name, metric, options):
    y, w = getattr(table, target), table.weights
    model, search = both_searches(target, name)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(metric, greater_is_better=name != "neg_log_loss", **options)
        search.set_params(
            estimator=search.estimator.set_fit_request(sample_weight=True),
            scoring=scorer.set_score_request(sample_weight=True),
        )
        search.fit(table.X, y, sample_weight=w)
        assert_same_table(model.fit(table.X, y, w), search)


# --- leave-one-out scores ------------------------------------------------------------------------


def loo_of(table, alpha, y, w=None):
    model = NTKRidgeCV(NTK(depth=2), param_grid={}, alphas=[alpha]).fit(table.X, y, w)
    return model.loo_predictions_


@pytest.mark.parametrize(
    ("scoring", "metric"),
    [
        ("r2", r2_score),
        ("neg_mean_absolute_error", lambda *a, **k: -mean_absolute_error(*a, **k)),
        (None, lambda *a, **k: -mean_squared_error(*a, **k)),
        (make_scorer(mean_absolute_error, greater_is_better=False), None),
        (make_scorer(r2_score), r2_score),
    ],
    ids=["r2", "absolute", "default", "scorer_of_absolute", "scorer_of_r2"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_scoring_judges_leave_one_out_predictions(table, scoring, metric, weighted):
    metric = metric or (lambda *a, **k: -mean_absolute_error(*a, **k))
    w = table.weights if weighted else None
    model = NTKRidgeCV(NTK(depth=2), param_grid={}, alphas=ALPHAS, scoring=scoring)
    model.fit(table.X, table.y, w)
    expected = [metric(table.y, loo_of(table, a, table.y, w), sample_weight=w) for a in ALPHAS]
    np.testing.assert_allclose(model.cv_results_["mean_test_score"], expected, rtol=RTOL)
    assert model.alpha_ == ALPHAS[np.argmax(expected)]


def test_scoring_of_probabilities_calibrates_each_ridge(table):
    model = NTKRidgeClassifierCV(
        NTK(depth=2), param_grid={}, alphas=ALPHAS, scoring="neg_log_loss"
    ).fit(table.X, table.classes)
    for alpha, score in zip(ALPHAS, model.cv_results_["mean_test_score"], strict=True):
        one = NTKRidgeClassifier(NTK(depth=2), alpha=alpha).fit(table.X, table.classes)
        proba = one._coder.proba(one.loo_predictions_, one._calibration)
        assert score == pytest.approx(-log_loss(table.classes, proba), rel=RTOL)


def test_scoring_leaves_rows_of_zero_weight_out(table):
    w = (np.arange(20) % 3 > 0).astype(float)
    model = NTKRidgeCV(NTK(), param_grid={}, alphas=ALPHAS, scoring="neg_median_absolute_error")
    scores = model.fit(table.X, table.y, w).cv_results_["mean_test_score"]
    removed = model.fit(table.X[w > 0], table.y[w > 0]).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, removed, rtol=RTOL)


def test_scoring_callable_sees_estimator_and_targets(table):
    seen = []

    def scoring(estimator, X, y):
        seen.append((estimator.predict(X).shape, y.shape))
        return r2_score(y, estimator.predict(X))

    model = NTKRidgeCV(NTK(), param_grid=GRID, alphas=ALPHAS, scoring=scoring)
    model.fit(table.X, table.y, table.weights)
    assert seen == [((20,), (20,))] * 6


def test_scoring_callable_sees_classes_scores_and_probabilities(table):
    def scoring(estimator, X, y):
        shapes = estimator.decision_function(X).shape, estimator.predict_proba(X).shape
        assert shapes == ((20, 3), (20, 3))
        np.testing.assert_array_equal(estimator.classes_, ["a", "b", "c"])
        return np.mean(estimator.predict(X) == y)

    model = NTKRidgeClassifierCV(param_grid=GRID, alphas=ALPHAS, scoring=scoring)
    named = clone(model).set_params(scoring="accuracy")
    found, expected = (
        m.fit(table.X, table.classes).cv_results_["mean_test_score"] for m in (model, named)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_scoring_callable_takes_weights_if_it_names_them(table, weighted):
    w = table.weights if weighted else None
    seen = []

    def scoring(estimator, X, y, sample_weight=None):
        seen.append(sample_weight)
        return r2_score(y, estimator.predict(X), sample_weight=sample_weight)

    NTKRidgeCV(param_grid=GRID, alphas=[0.1], scoring=scoring).fit(table.X, table.y, w)
    for found in seen:
        assert found is None if w is None else np.array_equal(found, w)


@pytest.mark.parametrize("cv", [None, 3], ids=["loo", "folds"])
@pytest.mark.filterwarnings("ignore:.*non-finite:UserWarning")
def test_scoring_never_chooses_a_score_that_is_nan(table, cv):
    def scoring(estimator, X, y):
        size = np.abs(estimator.predict(X)).mean()
        return np.nan if size == sizes[0] else size

    sizes = [-1.0]
    model = NTKRidgeCV(NTK(), param_grid=GRID, alphas=ALPHAS, cv=cv, scoring=scoring)
    first = "mean_test_score" if cv is None else "split0_test_score"
    sizes[0] = model.fit(table.X, table.y).cv_results_[first][0]
    found = model.fit(table.X, table.y)
    scores = found.cv_results_["mean_test_score"]
    assert np.isnan(scores[0])
    assert found.best_index_ == np.nanargmax(scores)
    assert found.cv_results_["rank_test_score"][0] == len(scores)


# --- the table of results ------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [None, 3], ids=["loo", "folds"])
def test_results_are_laid_out_as_those_of_grid_search(table, cv):
    model, search = both_searches("y", "r2")
    ours = model.set_params(cv=cv).fit(table.X, table.y).cv_results_
    theirs = search.fit(table.X, table.y).cv_results_
    times = {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"}
    expected = {name.replace("kernel__", "") for name in theirs} - times
    if cv is None:
        expected = {n for n in expected if not n.startswith("split")} - {"std_test_score"}
    assert set(ours) == expected
    assert all(len(column) == len(GRID["depth"]) * len(ALPHAS) for column in ours.values())
    for name in ("param_depth", "param_alpha"):
        assert isinstance(ours[name], np.ma.MaskedArray)
        assert ours[name].tolist() == [p[name.removeprefix("param_")] for p in ours["params"]]
    assert ours["rank_test_score"].dtype == theirs["rank_test_score"].dtype
    ranks = rankdata(-ours["mean_test_score"], method="min")
    np.testing.assert_array_equal(ours["rank_test_score"], ranks)
    assert ours["params"][model.best_index_] == model.best_params_
    assert ours["mean_test_score"][model.best_index_] == model.best_score_
    if cv is not None:
        splits = np.array([ours[f"split{k}_test_score"] for k in range(3)])
        np.testing.assert_allclose(ours["mean_test_score"], splits.mean(axis=0))
        np.testing.assert_allclose(ours["std_test_score"], splits.std(axis=0))


def test_results_are_a_data_frame(table):
    pandas = pytest.importorskip("pandas")
    model, _ = both_searches("y", "r2")
    frame = pandas.DataFrame(model.fit(table.X, table.y).cv_results_)
    best = frame.sort_values("rank_test_score").iloc[0]
    assert best["params"] == model.best_params_
