"""Configuration: validated, thread-local, undone by contexts, carried into workers."""

import threading

import pytest
from joblib import Parallel
from sklearn.datasets import load_iris

from sknk import _config
from sknk._config import config_context, delayed, get_config, set_config
from sknk.kernels import NTK

DEFAULTS = {
    "device": None,
    "dtype": None,
    "memory_budget": None,
    "compile": False,
    "tile_size": None,
}


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_get_config_lists_every_option():
    assert get_config() == DEFAULTS


def test_get_config_returns_a_copy():
    get_config()["dtype"] = "float32"
    assert get_config() == DEFAULTS


def test_context_sets_options_and_restores_them():
    with config_context(dtype="float32", tile_size=7):
        with config_context(dtype=None, memory_budget=1e9):
            assert get_config() == DEFAULTS | {"tile_size": 7, "memory_budget": 1e9}
        assert get_config() == DEFAULTS | {"tile_size": 7, "dtype": "float32"}
    assert get_config() == DEFAULTS


def test_context_restores_options_after_an_error():
    with pytest.raises(KeyError), config_context(dtype="float32"):
        raise KeyError
    assert get_config() == DEFAULTS


def test_context_stays_in_its_thread():
    with config_context(dtype="float32"):
        assert in_thread(get_config) == DEFAULTS


@pytest.mark.usefixtures("fresh_config")
def test_set_config_is_the_default_of_later_threads():
    set_config(dtype="float32")
    assert get_config()["dtype"] == "float32"
    assert in_thread(get_config)["dtype"] == "float32"
    set_config(dtype=None)
    assert in_thread(get_config) == DEFAULTS


def test_refused_options_change_nothing():
    with pytest.raises(ValueError, match="dtype"):
        set_config(tile_size=5, dtype="float16")
    assert get_config() == DEFAULTS


@pytest.mark.usefixtures("fresh_config")
@pytest.mark.parametrize(
    ("option", "error", "match"),
    [
        (
            {"dtype": "float16"},
            ValueError,
            r"`dtype` is 'float16'; expected one of \(None, 'float32'",
        ),
        ({"device": 0}, TypeError, "`device` is 0; expected None, 'auto' or a torch device string"),
        ({"compile": 1}, TypeError, "`compile` is 1; expected True or False"),
        ({"tile_size": 0}, ValueError, "`tile_size` is 0; expected None or a positive"),
        ({"tile_size": 0.5}, (TypeError, ValueError), "`tile_size` is 0.5"),
        ({"tile_size": "big"}, TypeError, "`tile_size` is 'big'"),
        (
            {"memory_budget": -1.0},
            ValueError,
            "`memory_budget` is -1.0; expected None or a positive",
        ),
        ({"memory_budget": float("nan")}, ValueError, "`memory_budget` is nan"),
        ({"memory_budget": "1GB"}, TypeError, "`memory_budget` is '1GB'"),
        (
            {"devise": "cpu"},
            TypeError,
            r"Unknown options \['devise'\]; expected some of \['compile'",
        ),
    ],
    ids=str,
)
def test_impossible_options_raise(option, error, match):
    with pytest.raises(error, match=match):
        set_config(**option)
    with pytest.raises(error, match=match), config_context(**option):
        pass
    assert get_config() == DEFAULTS


@pytest.mark.parametrize(
    "backend",
    ["threading", pytest.param("loky", marks=pytest.mark.slow)],  # starts interpreters
)
def test_delayed_carries_the_configuration_to_workers(backend):
    with config_context(dtype="float32", tile_size=3):
        found = Parallel(n_jobs=2, backend=backend)(delayed(get_config)() for _ in range(2))
    assert found == 2 * [DEFAULTS | {"dtype": "float32", "tile_size": 3}]


def test_delayed_passes_arguments():
    assert Parallel(n_jobs=1)(delayed(divmod)(7, y) for y in (2, 3)) == [(3, 1), (2, 1)]


def test_configuration_decides_the_dtype_of_grams():
    X = load_iris().data[:5]
    with config_context(dtype="float32"):
        assert NTK()(X).dtype == "float32"
    assert NTK()(X.astype("float32")).dtype == "float64"


def test_current_is_immutable():
    with pytest.raises(AttributeError):
        _config.current().dtype = "float32"
