import numpy as np
import pytest

from sknk import NTKGaussianProcessRegressor, NTKRidge, NTKRidgeClassifier
from sknk.active_learning import BatchActiveLearner, LearningCurves, run_active_learning
from sknk.kernels import NTK
from tests.cases import rows

X = rows(60, d=3)
NUMBERS = np.sin(2.0 * X[:, 0]) + 0.3 * X[:, 1]
CLASSES = np.array(["a", "b"])[(NUMBERS > 0).astype(int)]
KERNEL = NTK(depth=1, bias_var=0.1)
SIZES = {"n_initial": 6, "n_batches": 3, "n_splits": 2, "random_state": 0}


def learners(*selectors, batch_size=4):
    model = NTKRidge(KERNEL, alpha=0.1)
    return {name: BatchActiveLearner(model, name, batch_size=batch_size) for name in selectors}


def run(*selectors, **options):
    return run_active_learning(learners(*selectors), X, NUMBERS, **SIZES | options)


def same(one, other):
    np.testing.assert_array_equal(one.n_labels, other.n_labels)
    for name in other.scores:
        np.testing.assert_allclose(one.scores[name], other.scores[name], atol=1e-9)
        for mine, theirs in zip(one.chosen[name], other.chosen[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_curves_have_a_score_before_and_after_each_batch():
    curves = run("bait", "random")
    np.testing.assert_array_equal(curves.n_labels, [6, 10, 14, 18])
    assert {name: line.shape for name, line in curves.scores.items()} == {
        "bait": (2, 4),
        "random": (2, 4),
    }
    # The same rows to begin with, others later.
    np.testing.assert_array_equal(curves.scores["bait"][:, 0], curves.scores["random"][:, 0])
    assert (curves.scores["bait"][:, 1:] != curves.scores["random"][:, 1:]).all()
    assert curves.to_frame().shape == (16, 4)


def test_scores_are_those_of_fits_to_the_rows_asked_for():
    curves = run("bait")
    for line, batches in zip(curves.scores["bait"], curves.chosen["bait"], strict=True):
        asked = np.concatenate(batches)
        assert len(np.unique(asked)) == 12
        assert np.isfinite(line).all()


def test_learners_may_be_one():
    one = learners("bait")["bait"]
    curves = run_active_learning(one, X, NUMBERS, **SIZES)
    np.testing.assert_array_equal(curves.scores["learner"], run("bait").scores["bait"])
    assert one.random_state is None
    assert not hasattr(one, "estimator_")


def test_runs_follow_the_seed():
    same(run("random"), run("random"))
    other = run("random", random_state=1)
    assert (other.scores["random"] != run("random").scores["random"]).any()


def test_classes_are_learned_and_scored():
    model = BatchActiveLearner(NTKRidgeClassifier(KERNEL, alpha=0.1), batch_size=4)
    curves = run_active_learning(model, X, CLASSES, scoring="neg_log_loss", **SIZES)
    assert (curves.scores["learner"] < 0).all()
    plain = run_active_learning(model, X, CLASSES, **SIZES)
    assert ((plain.scores["learner"] >= 0) & (plain.scores["learner"] <= 1)).all()


@pytest.mark.parametrize("kept", [0, 1, 3, 7, 12, 16])
def test_run_goes_on_where_its_file_ends(tmp_path, kept):
    path = tmp_path / "run.jsonl"
    whole = run("bait", "kmeans++", path=path)
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 16
    path.write_text("\n".join(lines[: 1 + kept]) + '\n{"key": ["ba')  # cut while it wrote
    same(run("bait", "kmeans++", path=path), whole)
    same(run("bait", "kmeans++", path=path), whole)


def test_file_that_two_runs_wrote_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    run("bait", path=path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[2]]))
    with pytest.raises(ValueError, match=r"Two runs wrote steps of 'bait' to `path` .*run.jsonl"):
        run("bait", path=path)


def test_finished_run_is_read_not_run(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    whole = run("bait", path=path)
    monkeypatch.setattr(BatchActiveLearner, "fit", None)
    same(run("bait", path=path), whole)
    shorter = run("bait", path=path, n_batches=1)
    np.testing.assert_array_equal(shorter.scores["bait"], whole.scores["bait"][:, :2])


def test_file_of_other_data_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.jsonl"
    run("bait", path=path)
    before = path.read_text()
    with pytest.raises(ValueError, match=r"`path` .*is a run on other rows, labels or seed"):
        run_active_learning(learners("bait"), X, NUMBERS + 1.0, path=path, **SIZES)
    with pytest.raises(ValueError, match="nothing was overwritten"):
        run("bait", path=path, random_state=1)
    assert path.read_text() == before


def test_curves_say_how_many_labels_a_score_takes():
    scores = {"a": np.array([[0.1, 0.5, 0.9]]), "b": np.array([[0.1, 0.2, 0.3]])}
    curves = LearningCurves(np.array([10, 20, 30]), scores, {})
    assert curves.mean() == {"a": pytest.approx(0.7), "b": pytest.approx(0.25)}
    found = curves.labels_to_reach(0.5)
    assert found["a"] == 20
    assert np.isnan(found["b"])


def test_run_that_needs_more_rows_than_there_are_is_refused():
    with pytest.raises(ValueError, match="asks for 54 labels and 48 rows are left"):
        run("bait", n_batches=12)


def test_learners_of_different_batches_are_refused():
    mixed = learners("bait") | learners("lcmd", batch_size=5)
    with pytest.raises(ValueError, match=r"`batch_size` \[4, 5\]; expected one"):
        run_active_learning(mixed, X, NUMBERS, **SIZES)


def test_run_prints_nothing_unless_asked(capsys):
    run("random")
    assert capsys.readouterr() == ("", "")
    run("random", verbose=1)
    assert "curve" in capsys.readouterr().err


def test_run_of_a_process_goes_on_with_its_hyperparameters(tmp_path):
    """Teaching keeps those of the first fit, and so does a run that was cut."""
    model = BatchActiveLearner(
        NTKGaussianProcessRegressor(KERNEL, n_restarts_optimizer=0), batch_size=4
    )
    path = tmp_path / "run.jsonl"
    whole = run_active_learning(model, X, NUMBERS, path=path, **SIZES)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    same(run_active_learning(model, X, NUMBERS, path=path, **SIZES), whole)


def test_learners_with_another_missing_label_and_default_ones_run():
    model = BatchActiveLearner(missing_label=-1, batch_size=4)
    assert run_active_learning(model, X, NUMBERS, **SIZES).scores["learner"].shape == (2, 4)
