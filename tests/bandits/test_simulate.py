"""Problems, regret, and runs that are not played twice."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.pipeline import make_pipeline

from sknk.bandits import (
    NTKUCB,
    NTKEpsilonGreedy,
    Simulation,
    classification_problem,
    simulate,
    synthetic_problem,
    wheel_problem,
)


def test_classes_pay_one_to_their_arm():
    X, y = load_wine(return_X_y=True)
    X[3, 2] = np.nan
    names = np.array(["a", "b", "c"])[y]
    rounds = classification_problem(X, names, n_rounds=100, random_state=0)
    assert (rounds.X.shape, rounds.reward.shape, len(rounds)) == ((100, 13), (100, 3), 100)
    np.testing.assert_allclose(np.linalg.norm(rounds.X, axis=1), 1.0)
    np.testing.assert_array_equal(rounds.arms, ["a", "b", "c"])
    raw = classification_problem(X, names, unit_norm=False, random_state=0)
    whole = {tuple(np.nan_to_num(row, nan=-1.0)): name for row, name in zip(X, names, strict=True)}
    best = rounds.arms[raw.reward.argmax(1)]
    assert [whole[tuple(row)] for row in raw.X] == list(best)
    np.testing.assert_array_equal(rounds.regret(rounds.reward.argmax(1)), 0.0)
    with pytest.raises(ValueError, match="`n_rounds` is 200; expected 1 to 178"):
        classification_problem(X, y, n_rounds=200)


def test_synthetic_rewards_are_functions_of_one_direction():
    for name, function in (
        ("h1", lambda u: u),
        ("h2", np.square),
        ("h3", lambda u: np.cos(np.pi * u)),
    ):
        rounds = synthetic_problem(name, n_rounds=500, n_arms=3, n_features=4, random_state=1)
        X = rounds.X.reshape(500, 3, 4)
        np.testing.assert_allclose(np.linalg.norm(X, axis=2), 1.0)
        linear = synthetic_problem("h1", n_rounds=500, n_arms=3, n_features=4, random_state=1)
        np.testing.assert_allclose(rounds.expected, function(linear.expected))
        a = np.linalg.lstsq(X.reshape(-1, 4), linear.expected.ravel(), rcond=None)[0]
        assert np.linalg.norm(a) == pytest.approx(1.0)
        assert (rounds.reward - rounds.expected).std() == pytest.approx(0.1, rel=0.05)
        assert rounds.encoding == "columns"
    with pytest.raises(ValueError, match="`function` is 'h4'"):
        synthetic_problem("h4")


def test_the_wheel_pays_outside_by_quadrant():
    rounds = wheel_problem(0.5, n_rounds=4000, random_state=0)
    outer = np.linalg.norm(rounds.X, axis=1) > 0.5
    assert outer.mean() == pytest.approx(0.75, abs=0.03)
    assert (rounds.expected[~outer].argmax(1) == 0).all()
    best = rounds.expected[outer].argmax(1)
    signs = np.sign(rounds.X[outer])
    quadrants = {tuple(signs[best == arm].mean(0)) for arm in range(1, 5)}
    assert quadrants == {(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)}
    np.testing.assert_array_equal(rounds.expected[outer].max(1), 50.0)
    assert (rounds.reward - rounds.expected).std() == pytest.approx(0.01, rel=0.05)
    for bad in (0.0, 1.0):
        with pytest.raises(ValueError, match="`delta` is"):
            wheel_problem(bad)


class Cycle:
    """Plays arms in turn, and writes down what it is told."""

    def __init__(self, random_state=None, actions=None):
        self.random_state, self.actions = random_state, actions

    def get_params(self, deep=True):
        return {"random_state": self.random_state, "actions": self.actions}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def initialize(self, n_features):
        self.n_features, self.told, self.turn = n_features, [], 0

    def predict(self, X):
        self.turn += len(X)
        return self.actions[np.arange(self.turn - len(X), self.turn) % len(self.actions)]

    def partial_fit(self, X, y):
        self.told.append(y)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_regret_is_what_the_best_arm_pays_more(batch_size, monkeypatch):
    rounds = classification_problem(*load_wine(return_X_y=True), random_state=0)
    seen = []
    told = Cycle.partial_fit
    monkeypatch.setattr(Cycle, "partial_fit", lambda self, X, y: seen.append(y) or told(self, X, y))
    played = simulate(Cycle(), rounds, n_runs=2, batch_size=batch_size, random_state=0)
    wrong = np.arange(178) % 3 != rounds.reward.argmax(1)
    np.testing.assert_array_equal(played.regret["policy"], [np.cumsum(wrong)] * 2)
    np.testing.assert_array_equal(played.played["policy"][0], np.arange(178) % 3)
    paid = np.concatenate(seen[: -(-178 // batch_size)])["reward"]
    np.testing.assert_array_equal(paid, ~wrong)
    assert played.final() == {"policy": wrong.sum()}
    frame = played.to_frame()
    assert list(frame.columns) == ["policy", "run", "round", "regret"]
    assert len(frame) == 2 * 178


def test_runs_are_played_once(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    policies = {"ucb": NTKUCB(), "greedy": NTKEpsilonGreedy()}

    def problem(seed):
        return synthetic_problem(n_rounds=25, random_state=seed)

    first = simulate(policies, problem, n_runs=2, random_state=0, path=path)
    with path.open("a") as file:
        file.write('\n{"key": ["ucb", "cut whi')  # a run that was killed while it wrote
    plays = []
    import sknk.bandits._simulate as module

    whole = module._play
    monkeypatch.setattr(module, "_play", lambda *args: plays.append(args[0]) or whole(*args))
    again = simulate(policies, problem, n_runs=3, random_state=0, path=path)
    assert len(plays) == 2  # the third run of both
    for name, line in first.regret.items():
        np.testing.assert_array_equal(again.regret[name][:2], line)
    simulate({"ucb": NTKUCB(beta=2.0)}, problem, n_runs=1, random_state=0, path=path)
    assert len(plays) == 3
    Z = np.random.default_rng(0).normal(size=(30, 60))  # whose repr leaves most out
    for step in range(2):
        Z[15] += step
        policy = {"ucb": NTKUCB(arm_features=Z.copy())}
        simulate(policy, problem, n_runs=1, random_state=0, path=path)
    assert len(plays) == 5
    simulate(policy, problem, n_runs=1, random_state=0, path=path)
    assert len(plays) == 5
    assert not np.array_equal(first.regret["ucb"][0], first.regret["ucb"][1])
    np.testing.assert_array_equal(
        simulate(policies, problem, n_runs=2, random_state=0).regret["ucb"], first.regret["ucb"]
    )


class Factor:
    """A schedule that holds its number."""

    def __init__(self, c):
        self.c = c

    def __call__(self, t, gain):
        return self.c

    def method(self, t, gain):
        return self.c


def test_runs_of_other_settings_are_other_runs(tmp_path):
    path, rounds = tmp_path / "runs.jsonl", synthetic_problem("h2", n_rounds=30, random_state=0)

    def found(policy, problem=rounds):
        kept = simulate(policy, problem, random_state=0, path=path).regret["policy"]
        lines = len(path.read_text().strip().splitlines())
        np.testing.assert_array_equal(
            kept, simulate(policy, problem, random_state=0).regret["policy"]
        )
        return lines

    assert found(NTKUCB()) == 1
    assert found(NTKUCB(), replace(rounds, encoding="joint")) == 2
    lines = 2
    for c in (0.0, 50.0):
        inner, table = Factor(c), np.full(2000, 3.0)
        table[1000] = c  # which a repr leaves out
        for beta in (
            lambda t, gain, c=c: c,
            Factor(c),
            Factor(c).method,
            lambda t, gain, inner=inner: inner(t, gain),
            lambda t, gain, *, table=table: table[1000],
        ):
            lines += 1
            assert found(NTKUCB(beta=beta)) == lines
    assert found(NTKUCB(random_state=np.random.RandomState(1))) == lines  # a run has its own
    with pytest.raises(ValueError, match=r"`expected` has shape \(30, 3\); expected \(30, 4\)"):
        replace(rounds, expected=rounds.expected[:, :3])


@pytest.mark.parametrize("policies", [NTKUCB, [NTKUCB()], make_pipeline(NTKUCB()), {"a": None}])
def test_what_cannot_play_is_named(policies):
    rounds = synthetic_problem(n_rounds=5, random_state=0)
    with pytest.raises(ValueError, match="expected a bandit"):
        simulate(policies, rounds)
    with pytest.raises(ValueError, match="`problem` is a tuple; expected a BanditProblem"):
        simulate(NTKUCB(), (rounds.X, rounds.reward))


def test_slopes_of_powers_are_their_exponents():
    t = np.arange(1, 401.0)
    played = Simulation({"root": np.sqrt(t)[None], "line": t[None], "none": 0 * t[None]}, {}, {})
    slope = played.slope()
    assert slope["root"] == pytest.approx(0.5)
    assert slope["line"] == pytest.approx(1.0)
    assert np.isnan(slope["none"])


def test_no_runs_or_rounds_are_refused():
    rounds = synthetic_problem(n_rounds=5, random_state=0)
    for bad in ({"n_runs": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="expected at least 1 of both"):
            simulate(NTKUCB(), rounds, **bad)


def test_progress_is_shown_when_asked(capsys):
    rounds = synthetic_problem(n_rounds=5, random_state=0)
    simulate(NTKUCB(), rounds)
    assert capsys.readouterr().err == ""
    simulate(NTKUCB(), rounds, verbose=1)
    assert "policy, run 1 of 1" in capsys.readouterr().err


def test_digits_are_learned_by_exploring():
    X, y = load_digits(return_X_y=True)
    rounds = classification_problem(X, y, n_rounds=300, random_state=0)
    found = simulate(
        {"ucb": NTKUCB(), "mean": NTKEpsilonGreedy(epsilon=0.0)}, rounds, random_state=0
    ).final()
    assert found["ucb"] < 0.6 * 300  # at random .9
    assert found["ucb"] < found["mean"]
