import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score

from sknk import NTKRidgeClassifier
from sknk.attribution import SurrogateExplainer
from sknk.kernels import EmpiricalNTK, Normalized
from tests.cases import rows

X, X_TEST = rows(40, 4, seed=1), rows(25, 4, seed=2)
TARGETS = {
    "three": lambda A: np.array(["a", "b", "c"])[np.digitize(A[:, 0], [-0.4, 0.4])],
    "two": lambda A: (A[:, 0] + A[:, 1] > 0).astype(int),
    "one": lambda A: (A[:, 0] + A[:, 1] > 0).astype(int),
    "numbers": lambda A: A[:, 0] + 0.3 * A[:, 1] ** 2,
}
OUTPUTS = {"three": 3, "two": 2, "one": 1, "numbers": 1}


def network(outputs, inputs=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs)
    ).double()


def trained(case):
    """A network that has learned the targets of a case a little."""
    net = network(OUTPUTS[case])
    y = TARGETS[case](X)
    inputs = torch.from_numpy(X)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        out = net(inputs)
        if case == "numbers":
            loss = (out[:, 0] - torch.from_numpy(y)).square().mean()
        elif case == "one":
            loss = torch.nn.functional.soft_margin_loss(out[:, 0], 2.0 * torch.from_numpy(y) - 1)
        else:
            truth = torch.from_numpy(np.unique(y, return_inverse=True)[1])
            loss = torch.nn.functional.cross_entropy(out, truth)
        loss.backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module", params=TARGETS)
def case(request):
    name = request.param
    y, y_test = TARGETS[name](X), TARGETS[name](X_TEST)
    net = trained(name)
    explainer = SurrogateExplainer(net, alpha=0.1).fit(X, y, X_TEST, y_test)
    with torch.no_grad():
        outputs = net(torch.from_numpy(X_TEST)).numpy()
    return name, explainer, y, y_test, outputs


def test_terms_sum_to_the_decision_of_the_networks_class(case):
    name, explainer, _, _, outputs = case
    total = explainer.explain(X_TEST).sum(axis=1)
    if name == "numbers":
        np.testing.assert_allclose(
            total + explainer.expected_value_[0], explainer.predict(X_TEST), rtol=1e-9
        )
        return
    f = explainer.decision_function(X_TEST)
    f = np.column_stack([-f, f]) if f.ndim == 1 else f
    said = (outputs[:, 0] > 0).astype(int) if name == "one" else outputs.argmax(1)
    np.testing.assert_array_equal(explainer.classes_[said], explainer.network_predict(X_TEST))
    np.testing.assert_allclose(
        total + explainer.expected_value_[said], f[np.arange(len(f)), said], rtol=1e-9, atol=1e-12
    )


def test_classes_may_be_chosen(case):
    name, explainer, _, y_test, _ = case
    if name == "numbers":
        with pytest.raises(ValueError, match=r"`y` is given and the network predicts numbers"):
            explainer.explain(X_TEST, y_test)
        return
    each = [explainer.explain(X_TEST, np.full(len(X_TEST), c)) for c in explainer.classes_]
    truth = np.searchsorted(explainer.classes_, y_test)
    chosen = np.stack(each)[truth, np.arange(len(truth))]
    np.testing.assert_allclose(explainer.explain(X_TEST, y_test), chosen, rtol=1e-12)
    if len(each) == 2:
        np.testing.assert_allclose(each[0], -each[1], rtol=1e-12)


def test_faithfulness_is_what_it_says(case):
    name, explainer, _, y_test, outputs = case
    found = explainer.faithfulness(X_TEST, y_test)
    assert found == explainer.faithfulness_
    assert (found.kendall_tau, found.n_rows) == (explainer.kendall_tau_, 25)
    predicted = explainer.predict(X_TEST)
    if name == "numbers":
        own = outputs[:, 0]
        expected = r2_score(y_test, own) - r2_score(y_test, predicted)
        tau = kendalltau(own, predicted).statistic
        agreement = np.corrcoef(own, predicted)[0, 1]
    else:
        said = explainer.network_predict(X_TEST)
        expected = accuracy_score(y_test, said) - accuracy_score(y_test, predicted)
        agreement = np.mean(said == predicted)
        full = np.column_stack([0 * outputs, outputs]) if name == "one" else outputs
        p, q = np.exp(full) / np.exp(full).sum(1, keepdims=True), explainer.predict_proba(X_TEST)
        true = np.searchsorted(explainer.classes_, y_test)[:, None]
        sure = [np.take_along_axis(one, true, 1)[:, 0] for one in (p, q)]
        tau = kendalltau(*sure).statistic
    assert explainer.accuracy_difference_ == pytest.approx(expected, abs=1e-12)
    assert found.kendall_tau == pytest.approx(tau, abs=0.02)  # probabilities near one may tie
    assert found.agreement == pytest.approx(agreement)
    assert found.kendall_tau > 0.2


def test_training_rows_are_left_out_when_there_are_no_others(case):
    _, explainer, y, _, _ = case
    own = clone(explainer).fit(X, y)
    assert own.faithfulness_.n_rows == len(X)
    assert own.faithfulness_ != explainer.faithfulness(X, y)
    np.testing.assert_array_equal(own.loo_predictions_, own.surrogate_.loo_predictions_)


def test_surrogate_is_ridge_on_cosines():
    net, y = network(3), TARGETS["three"](X)
    for kind in ("trace", "pseudo", "last_layer"):
        found = SurrogateExplainer(net, kind=kind, alpha=0.3).fit(X, y)
        ridge = NTKRidgeClassifier(Normalized(EmpiricalNTK(net, kind=kind)), alpha=0.3).fit(X, y)
        np.testing.assert_allclose(
            found.decision_function(X_TEST), ridge.decision_function(X_TEST), rtol=1e-9, atol=1e-12
        )


def test_ridge_is_chosen_when_there_is_none():
    found = SurrogateExplainer(network(3)).fit(X, TARGETS["three"](X))
    assert len(found.surrogate_.cv_results_["params"]) > 1


def test_images_are_unpacked():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(2, 2)
    )
    explainer = SurrogateExplainer(net, alpha=0.1, input_shape=(1, 2, 2))
    explainer.fit(X, TARGETS["two"](X))
    with torch.no_grad():
        said = net(torch.from_numpy(X_TEST).float().reshape(-1, 1, 2, 2)).argmax(1).numpy()
    np.testing.assert_array_equal(explainer.network_predict(X_TEST), said)


def test_module_stays_and_its_later_training_does_not_matter():
    net, y = network(3), TARGETS["three"](X)
    before = copy.deepcopy(net.state_dict())
    explainer = SurrogateExplainer(net, alpha=0.1).fit(X, y)
    expected = explainer.explain(X_TEST)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(explainer.explain(X_TEST), expected)


def test_copies_keep_what_was_learned(case):
    _, explainer, y, y_test, _ = case
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again.explain(X_TEST), explainer.explain(X_TEST))
    twin = clone(explainer)
    assert twin.module is not explainer.module
    np.testing.assert_allclose(
        twin.fit(X, y, X_TEST, y_test).explain(X_TEST), explainer.explain(X_TEST), rtol=1e-12
    )


def test_numbers_have_no_probabilities(case):
    name, explainer, *_ = case
    assert hasattr(explainer, "predict_proba") == (name != "numbers")


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (2, "three", r"The network has 2 outputs and `y` 3 classes \(\['a', 'b', 'c'\]\)"),
        (1, "three", r"The network has 1 outputs and `y` 3 classes"),
        (2, "numbers", "The network has 2 outputs and `y` holds numbers; expected one output"),
    ],
)
def test_outputs_raise_when_they_do_not_fit_the_targets(outputs, target, message):
    with pytest.raises(ValueError, match=message):
        SurrogateExplainer(network(outputs), alpha=0.1).fit(X, TARGETS[target](X))


def test_fit_raises_when_validation_is_half_given():
    with pytest.raises(ValueError, match="`y_val` is None and the other is not"):
        SurrogateExplainer(network(2)).fit(X, TARGETS["two"](X), X_TEST)


def test_fit_raises_when_targets_have_two_columns():
    with pytest.raises(ValueError, match=r"`y` has shape \(40, 2\); expected \(n,\)"):
        SurrogateExplainer(network(2)).fit(X, X[:, :2])


def test_failed_fit_leaves_the_explainer_as_it_was():
    explainer = SurrogateExplainer(network(2), alpha=0.1).fit(X, TARGETS["two"](X))
    expected = explainer.explain(X_TEST)
    with pytest.raises(ValueError, match="The network has 2 outputs"):
        explainer.fit(X, TARGETS["three"](X))
    np.testing.assert_array_equal(explainer.explain(X_TEST), expected)


def test_explain_raises_when_rows_and_labels_differ(case):
    name, explainer, _, y_test, _ = case
    if name != "numbers":
        with pytest.raises(ValueError, match="`y` has 25 rows; expected 3, those of `X`"):
            explainer.explain(X_TEST[:3], y_test)
    with pytest.raises(ValueError, match="`y` has 25 rows; expected 3, those of `X`"):
        explainer.faithfulness(X_TEST[:3], y_test)


def test_module_raises_when_it_is_none():
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        SurrogateExplainer("net").fit(X, TARGETS["two"](X))


@pytest.mark.parametrize("call", ["explain", "predict", "network_predict"])
def test_explainer_raises_when_it_is_not_fitted(call):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(SurrogateExplainer(network(2)), call)(X)
