import numpy as np
import pytest
from numpy.testing import assert_allclose

from sknk.bandits import NTKUCB, NTKEpsilonGreedy, Simulation, simulate, synthetic_problem
from sknk.inspection import RegretDisplay

plt = pytest.importorskip("matplotlib.pyplot")


def test_curves_are_means_and_bands_standard_errors():
    regret = {"a": np.array([[0.0, 2.0], [2.0, 4.0]]), "b": np.array([[1.0, 1.0]])}
    display = RegretDisplay.from_predictions(Simulation(regret, {}, {}))
    assert_allclose(display.lines_["a"].get_xydata(), [[1, 1.0], [2, 3.0]])
    assert set(display.bands_) == {"a"}
    points = display.bands_["a"].get_paths()[0].vertices
    assert_allclose([points[:, 1].min(), points[:, 1].max()], [0.0, 4.0])
    assert display.ax_.get_ylabel() == "cumulative regret"
    assert display.figure_ is display.ax_.figure


def test_policies_play_as_by_hand():
    policies = {"ucb": NTKUCB(), "greedy": NTKEpsilonGreedy()}
    rounds = synthetic_problem(n_rounds=20, random_state=0)
    display = RegretDisplay.from_estimator(policies, rounds, n_runs=2, random_state=1)
    played = simulate(policies, rounds, n_runs=2, random_state=1)
    for name, line in display.lines_.items():
        assert_allclose(line.get_ydata(), played.regret[name].mean(0))


def test_style_and_axes_are_those_passed():
    _, ax = plt.subplots()
    regret = Simulation({"a": np.array([[0.1, 0.5]] * 2)}, {}, {})
    display = RegretDisplay.from_predictions(regret, ax=ax, color="red", band_kw={"alpha": 0.5})
    assert display.ax_ is ax
    assert display.lines_["a"].get_color() == "red"
    assert display.bands_["a"].get_alpha() == 0.5


def test_other_things_than_simulations_are_refused():
    with pytest.raises(
        TypeError, match=r"`simulation` is a list; expected what `simulate` returns"
    ):
        RegretDisplay.from_predictions([1])
