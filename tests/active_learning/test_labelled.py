import copy
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks
from torch import nn
from torch.func import functional_call, jacrev

from sknk import config_context
from sknk.active_learning import LabelledNTKSelector
from sknk.exceptions import MemoryBudgetError, NonFiniteGradientError
from sknk.networks import NetworkClassifier, TangentMLP
from tests.cases import rows
from tests.modules import AnyWidth, convolutional, mlp, seeded
from tests.solvers.selection.test_farthest import naive_clusters

X = rows(20, d=3, seed=1)
SIZES = np.array([9, 7, 4])
Y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], SIZES))
NAMES = np.array(["no", "so", "yes"])
SMALL = partial(TangentMLP, hidden=(64,))
FITTED = ("support_", "heads_", "labels_", "mean_similarity_", "classes_")


class Scaled(nn.Module):
    """Has a parameter that is a number, which many an implementation forgets."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        return self.last(self.scale * torch.tanh(self.first(x)))


def net(outputs=3, seed=0):
    return seeded(lambda: mlp(3, outputs, width=4), seed)


def fitted(module=None, y=Y, **params):
    return LabelledNTKSelector(net() if module is None else module, **params).fit(X, y)


def similarities(module, y):
    """Return lpNTK of all rows by the Jacobian of all parameters, (n, n)."""
    weights = {name: p.detach() for name, p in module.named_parameters()}
    J = jacrev(lambda p: functional_call(module, p, (torch.from_numpy(X),)))(weights)
    J = torch.cat([part.reshape(*part.shape[:2], -1) for part in J.values()], 2).numpy()
    outputs = J.shape[1]
    signs = np.where(np.arange(outputs) == y[:, None], 1.0, -1.0)
    Theta = np.einsum("iop,jqp->ijoq", J, J)
    return np.einsum("io,ijoq,jq->ij", signs, Theta, signs) / outputs**2


def assert_same(found, wanted, **tolerance):
    for name in FITTED:
        a, b = getattr(found, name), getattr(wanted, name)
        if a.dtype.kind == "f" and tolerance:
            np.testing.assert_allclose(a, b, err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: mlp(3, 3), Scaled], ids=["mlp", "scalar_parameter"])
def test_mean_similarity_is_that_of_other_rows_of_the_class(make):
    module = seeded(make)
    K = similarities(module, Y)
    others = np.equal.outer(Y, Y) & ~np.eye(20, dtype=bool)
    wanted = [K[i, others[i]].mean() for i in range(20)]
    np.testing.assert_allclose(fitted(module).mean_similarity_, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [lambda: mlp(3, 3), Scaled], ids=["mlp", "scalar_parameter"])
@pytest.mark.parametrize("keep", [0.4, 0.75])
def test_clusters_equal_naive_ones_of_each_class(make, keep):
    module = seeded(make)
    selector, K = fitted(module, keep=keep), similarities(module, Y)
    heads, labels = [], np.zeros(20, dtype=int)
    for c in range(3):
        own = np.flatnonzero(c == Y)
        chosen, clusters = naive_clusters(K[np.ix_(own, own)], round(keep * len(own)))
        labels[own] = np.array(clusters) + len(heads)
        heads += own[chosen].tolist()
    assert selector.heads_.tolist() == heads
    np.testing.assert_array_equal(selector.labels_, labels)


@pytest.mark.parametrize("keep", [1e-9, 0.3, 0.9, 1])
def test_kept_rows_are_so_many_of_each_class(keep):
    selector = fitted(keep=keep)
    kept = np.bincount(Y[selector.support_], minlength=3)
    assert kept.tolist() == [max(1, round(keep * n)) for n in SIZES]


def test_heads_are_the_rows_kept_and_stand_for_their_clusters():
    selector = fitted(keep=0.5)
    assert sorted(selector.heads_) == np.flatnonzero(selector.support_).tolist()
    assert selector.labels_[selector.heads_].tolist() == list(range(len(selector.heads_)))
    np.testing.assert_array_equal(Y[selector.heads_[selector.labels_]], Y)


def test_support_is_a_mask_or_numbers():
    selector = fitted(keep=0.5)
    assert selector.get_support() is selector.support_
    assert selector.support_.dtype == bool
    np.testing.assert_array_equal(X[selector.get_support(indices=True)], X[selector.support_])


def test_only_row_of_a_class_is_kept_and_similar_to_none():
    y = np.zeros(20, dtype=int)
    y[3] = 1
    selector = fitted(y=y, keep=0.1)
    assert selector.support_[3]
    assert selector.mean_similarity_[3] == 0.0


def test_params_are_those_differentiated():
    part, module = fitted(params="4.*").mean_similarity_, net()
    for p in module[:4].parameters():
        p.requires_grad_(False)
    np.testing.assert_array_equal(fitted(module).mean_similarity_, part)


# --- digits --------------------------------------------------------------------------------------


def trained(X, y):
    return NetworkClassifier(SMALL, max_epochs=30, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def digits():
    """Standardized digits, test rows, and labels of which a tenth is wrong."""
    train, test, y, y_test = train_test_split(
        *load_digits(return_X_y=True), test_size=0.3, random_state=0
    )
    scaler, rng = StandardScaler().fit(train), np.random.default_rng(0)
    wrong = rng.permutation(len(y)) < len(y) // 10
    noisy = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    train, test = scaler.transform(train), scaler.transform(test)
    return SimpleNamespace(X=train, y=y, test=test, y_test=y_test, wrong=wrong, noisy=noisy)


@pytest.fixture(scope="module")
def flagged(digits):
    """The selector of a network that was trained with wrong labels."""
    return LabelledNTKSelector(trained(digits.X, digits.noisy)).fit(digits.X, digits.noisy)


def test_wrong_labels_are_least_similar_to_their_class(digits, flagged):
    # 0.94 to 0.97 over five splits
    assert roc_auc_score(digits.wrong, -flagged.mean_similarity_) > 0.9


def test_wrong_labels_are_kept_and_positive(digits, flagged):
    # What the documentation warns of: 98 % are kept, and the sign tells nothing behind a ReLU.
    assert flagged.support_[digits.wrong].mean() > 0.9
    assert (flagged.mean_similarity_ > 0).all()


def test_dropping_a_tenth_does_not_cost_accuracy(digits):
    whole = trained(digits.X, digits.y)
    kept = LabelledNTKSelector(whole, keep=0.9).fit(digits.X, digits.y).support_
    part = trained(digits.X[kept], digits.y[kept])
    assert kept.mean() == pytest.approx(0.9, abs=0.005)
    scores = [model.score(digits.test, digits.y_test) for model in (whole, part)]
    assert scores[1] > scores[0] - 0.02


# --- networks and labels -------------------------------------------------------------------------


def test_network_of_a_classifier_is_the_first_and_knows_its_classes():
    y = NAMES[Y]
    several = NetworkClassifier(SMALL, n_models=2, max_epochs=2, random_state=0).fit(X, y)
    found = LabelledNTKSelector(several).fit(X[Y > 0], y[Y > 0])
    wanted = LabelledNTKSelector(several.modules_[0]).fit(X[Y > 0], Y[Y > 0])
    np.testing.assert_array_equal(found.mean_similarity_, wanted.mean_similarity_)
    assert found.classes_.tolist() == NAMES.tolist()


def test_object_with_a_module_stands_for_it():
    assert_same(fitted(SimpleNamespace(module_=net())), fitted())
    named = fitted(SimpleNamespace(module_=net(), classes_=NAMES), NAMES[Y])
    np.testing.assert_array_equal(named.mean_similarity_, fitted().mean_similarity_)


def test_labels_are_outputs_in_order():
    named = fitted(y=NAMES[Y])
    assert named.classes_.tolist() == NAMES.tolist()
    assert fitted().classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(named.mean_similarity_, fitted().mean_similarity_)


def test_labels_that_are_numbers_of_outputs_are_these():
    y = np.where(Y == 1, 2, Y)  # no row of output 1
    wanted = similarities(net(), y)
    others = np.equal.outer(y, y) & ~np.eye(20, dtype=bool)
    found = fitted(y=y)
    np.testing.assert_allclose(
        found.mean_similarity_, (wanted * others).sum(1) / others.sum(1), rtol=1e-10
    )
    assert found.classes_.tolist() == [0, 1, 2]


def test_more_classes_than_outputs_are_refused():
    with pytest.raises(
        ValueError, match=r"There are 3 classes, \[0, 1, 2\], and `module` has 2 output"
    ):
        fitted(net(2))


def test_fewer_other_labels_than_outputs_are_refused():
    with pytest.raises(
        ValueError, match=r"`y` has 3 classes.*and `module` 5 outputs; expected labels 0 to 4, or 5"
    ):
        fitted(net(5), NAMES[Y])


def test_labels_that_a_classifier_does_not_know_are_refused():
    known = SimpleNamespace(module_=net(), classes_=NAMES)
    with pytest.raises(ValueError, match="has the label 'maybe'; expected one of the classes"):
        fitted(known, np.where(Y == 1, "maybe", NAMES[Y]))


def test_numbers_are_no_labels():
    with pytest.raises(ValueError, match="Unknown label type"):
        fitted(y=X[:, 0])


@pytest.mark.parametrize("keep", [0, 1.1, "most"])
def test_part_that_is_none_is_refused(keep):
    with pytest.raises(ValueError, match="The 'keep' parameter"):
        fitted(keep=keep)


def test_object_without_a_network_is_refused():
    with pytest.raises(TypeError, match=r"`module` is 3; expected a torch\.nn\.Module"):
        fitted(3)


def test_network_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError, match="NetworkClassifier instance is not fitted"):
        fitted(NetworkClassifier(SMALL))


def test_selector_that_is_not_fitted_has_no_support():
    with pytest.raises(NotFittedError, match="LabelledNTKSelector instance is not fitted"):
        LabelledNTKSelector(net()).get_support()


class Kink(nn.Linear):
    """Has no finite gradient where a feature is zero."""

    def forward(self, x):
        return torch.sqrt(torch.abs(super().forward(x)))


def test_row_without_a_gradient_is_named_as_it_was_passed():
    module = nn.Sequential(seeded(lambda: Kink(3, 3, bias=False)))
    zero = X.copy()
    zero[11] = 0.0
    with pytest.raises(NonFiniteGradientError, match="gradient of row 11 with respect"):
        LabelledNTKSelector(module).fit(zero, Y)


def test_class_that_does_not_fit_is_refused():
    with config_context(memory_budget=600), pytest.raises(MemoryBudgetError, match="n=9 by 9 rows"):
        fitted(y=np.sort(Y)[::-1])


# --- rows, places, copies ------------------------------------------------------------------------


@checks.parametrize_with_checks([LabelledNTKSelector(seeded(lambda: AnyWidth(outputs=10)))])
def test_selector_passes_sklearn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [checks.check_dataframe_column_names_consistency, checks.check_param_validation]
)
def test_selector_passes_sklearn_check_for_third_parties(check):
    check("LabelledNTKSelector", LabelledNTKSelector(seeded(lambda: AnyWidth(outputs=10))))


def test_copies_have_the_weights_and_the_answers():
    known = NetworkClassifier(SMALL, max_epochs=2, random_state=0).fit(X, NAMES[Y])
    for module, y in ((net(), Y), (known, NAMES[Y])):
        selector = fitted(module, y, keep=0.5)
        twin = clone(selector)
        assert not hasattr(twin, "support_")
        assert_same(twin.fit(X, y), selector)
        for other in (pickle.loads(pickle.dumps(selector)), copy.deepcopy(selector)):
            assert_same(other, selector)
            assert_same(other.fit(X, y), selector)


def test_fitted_attributes_are_numpy():
    state = fitted().__getstate__()
    assert all(isinstance(state[name], np.ndarray) for name in FITTED)
    assert not [name for name, value in state.items() if isinstance(value, torch.Tensor)]


def test_fit_leaves_network_data_and_generators_alone():
    module, before = net(), net().state_dict()
    state, data = torch.get_rng_state(), X.copy()
    fitted(module.train())
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(X, data)
    assert module.training
    assert all(torch.equal(p, before[name]) for name, p in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_failing_fit_changes_nothing(monkeypatch):
    selector = fitted(keep=0.5)
    before = dict(vars(selector))
    with pytest.raises(ValueError, match="NaN"):
        selector.fit(np.where(np.arange(20)[:, None] == 3, np.nan, X), Y)

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sknk.active_learning._labelled._mean_of_others", fail)
    with pytest.raises(KeyboardInterrupt):
        selector.fit(X[:12], Y[:12])
    assert vars(selector).keys() == before.keys()
    assert all(vars(selector)[name] is value for name, value in before.items())


def test_tensors_and_chunks_change_nothing():
    tensors = LabelledNTKSelector(net(), keep=0.5).fit(torch.from_numpy(X), torch.from_numpy(Y))
    assert_same(tensors, fitted(keep=0.5))
    assert_same(fitted(keep=0.5, chunk_size=2), fitted(keep=0.5), rtol=1e-12)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_have_names(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({f"x{k}": column for k, column in enumerate(X.T)})
    selector = LabelledNTKSelector(net(), keep=0.5).fit(frame, frames.Series(NAMES[Y]))
    assert selector.feature_names_in_.tolist() == ["x0", "x1", "x2"]
    np.testing.assert_array_equal(selector.support_, fitted(keep=0.5).support_)


def test_rows_are_unpacked_to_inputs():
    images = seeded(lambda: convolutional(3))
    selector = fitted(images, input_shape=(1, 1, 3))
    assert np.isfinite(selector.mean_similarity_).all()


def test_float32_is_near_float64():
    low, high = fitted(keep=0.5, dtype="float32"), fitted(keep=0.5)
    assert low.mean_similarity_.dtype == np.float64
    assert_same(low, high, rtol=1e-4, atol=1e-6)  # rounding of float32 times some cancellation


def test_verbose_writes_to_stderr_only(capsys):
    fitted()
    assert capsys.readouterr() == ("", "")
    fitted(verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "class" in err


@pytest.mark.gpu
def test_selector_on_gpu_agrees_with_cpu(cuda):
    wanted = fitted(keep=0.5)
    assert_same(fitted(keep=0.5, device="cuda"), wanted, rtol=1e-9, atol=1e-12)
    on_gpu = torch.from_numpy(X).to(cuda)
    followed = LabelledNTKSelector(net(), keep=0.5).fit(on_gpu, Y)
    assert_same(followed, wanted, rtol=1e-9, atol=1e-12)
