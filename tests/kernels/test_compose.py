"""Layers made of layers: names, nested parameters, repetitions."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sknk import kernels
from sknk.kernels import (
    NTK,
    Abs,
    Conv2d,
    Dense,
    Dropout,
    Erf,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LayerNorm,
    NetworkKernel,
    ParallelConcat,
    ParallelSum,
    ReLU,
    Repeat,
    Serial,
)
from tests.cases import IMAGE_NETWORKS, NETWORKS, rows

X, Y = rows(6), rows(4, seed=1)
COMPOSITES = NETWORKS | IMAGE_NETWORKS


def names(network):
    return [name for name, _ in network.layers]


# --- names -------------------------------------------------------------------------------------


def test_chain_names_layers_by_their_class():
    network = Dense() >> ReLU() >> Dense() >> LayerNorm() >> Erf() >> Dense()
    assert names(network) == ["dense", "relu", "dense_2", "layernorm", "erf", "dense_3"]
    images = Conv2d() >> ReLU() >> Conv2d(2) >> GlobalAvgPool2d() >> Repeat(Dense() >> ReLU())
    assert names(images) == ["conv2d", "relu", "conv2d_2", "globalavgpool2d", "repeat"]


def test_chain_is_flat_and_associative():
    a, b, c, d = Dense(1.0), ReLU(), Dense(2.0), Erf()
    assert names((a >> b) >> (c >> d)) == ["dense", "relu", "dense_2", "erf"]
    assert (a >> b) >> (c >> d) == ((a >> b) >> c) >> d == a >> (b >> (c >> d))
    assert ((a >> b) >> (c >> d)).layers[2] == ("dense_2", c)


def test_chain_keeps_given_names_and_numbers_those_taken():
    first = Serial((("input", Dense()), ("dense", Dense())))
    assert names(first >> Dense()) == ["input", "dense", "dense_2"]
    assert names(first >> first) == ["input", "dense", "input_2", "dense_2"]
    assert names(first >> first >> first) == [
        *("input", "dense", "input_2", "dense_2", "input_3", "dense_3")
    ]
    assert names(Serial((("dense_2", Dense()),)) >> Dense() >> Dense()) == [
        *("dense_2", "dense", "dense_3")
    ]


@given(word=st.lists(st.sampled_from([Dense(), ReLU(), Dense() >> ReLU()]), min_size=2, max_size=7))
def test_chain_names_are_unique(word):
    network = word[0]
    for layer in word[1:]:
        network = network >> layer
    assert len(set(names(network))) == len(names(network))
    assert len(names(network)) == sum(2 if isinstance(layer, Serial) else 1 for layer in word)


def test_chain_refuses_what_is_no_layer():
    for other in (3.0, "relu", ReLU, NTK()):
        with pytest.raises(TypeError, match="unsupported operand"):
            Dense() >> other


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ((), TypeError, r"`layers` of Serial is \(\); expected a tuple"),
        ([("a", Dense())], TypeError, r"`layers` of Serial is \[.*\]; expected a tuple"),
        (Dense(), TypeError, r"`layers` of Serial is Dense\(\); expected a tuple"),
        ((Dense(),), TypeError, r"`layers` of Serial contains Dense\(\); expected \(name, layer\)"),
        ((("a", "relu"),), TypeError, "`a` of Serial is 'relu'; expected a layer"),
        ((("a", ReLU),), TypeError, "`a` of Serial is <class .*ReLU'>; expected a layer"),
        (((1, Dense()),), TypeError, "contains .*; expected .name, layer. pairs"),
        ((("a", Dense()), ("a", ReLU())), ValueError, r"names \['a', 'a'\]; expected unique"),
        ((("a__b", Dense()),), ValueError, r"names \['a__b'\]; expected unique ones without '__'"),
        ((("", Dense()),), ValueError, r"names \[''\]; expected unique ones"),
        (
            (("layers", Dense()),),
            ValueError,
            r"names \['layers'\]; expected .* other than 'layers'",
        ),
    ],
)
def test_serial_refuses_names_that_parameters_cannot_have(layers, error, message):
    with pytest.raises(error, match=message):
        Serial(layers)


# --- parameters --------------------------------------------------------------------------------


def test_get_params_names_nested_parameters():
    block = ParallelSum((("skip", Identity()), ("branch", ReLU() >> Dense(bias_var=0.3))))
    network = Dense(1.0) >> block >> Repeat(Dense() >> ReLU(), times=3)
    params = network.get_params()
    assert params["dense__weight_var"] == 1.0
    assert params["parallelsum"] is block
    assert params["parallelsum__branch__dense__bias_var"] == 0.3
    assert params["repeat__times"] == 3
    assert params["repeat__layer__dense__weight_var"] == 2.0
    assert set(network.get_params(deep=False)) == {"layers"}


def test_with_params_changes_nested_parameters_at_once():
    block = ParallelSum((("skip", Identity()), ("branch", ReLU() >> Dense())))
    network = Dense() >> block >> Dense()
    changed = network.with_params(
        parallelsum__branch__dense__bias_var=0.1, dense__weight_var=1.0, dense__bias_var=0.2
    )
    assert changed.get_params()["parallelsum__branch__dense"] == Dense(bias_var=0.1)
    assert changed.layers[0][1] == Dense(1.0, 0.2)
    assert changed.layers[2][1] == Dense()
    assert network.layers[0][1] == Dense()  # the original stays


def test_with_params_replaces_whole_layers():
    network = Dense() >> ReLU() >> Dense()
    changed = network.with_params(relu=Erf(), dense_2__bias_var=0.5)
    assert changed == Serial(
        (("dense", Dense()), ("relu", Erf()), ("dense_2", Dense(bias_var=0.5)))
    )
    both = network.with_params(dense=Dense(1.0), dense__bias_var=0.5)  # the layer, then its own
    assert both.layers[0][1] == Dense(1.0, bias_var=0.5)
    swapped = network.with_params(layers=(("dense", Dense()),), dense__bias_var=0.1)
    assert swapped == Serial((("dense", Dense(bias_var=0.1)),))
    with pytest.raises(TypeError, match="`relu` of Serial is 'erf'; expected a layer"):
        network.with_params(relu="erf")


@pytest.mark.parametrize(
    "name", ["conv2d", "dense__width", "relu__a", "dense_3__bias_var", "layers__dense"]
)
def test_with_params_refuses_unknown_names(name):
    with pytest.raises(ValueError, match=r"` is no parameter of .*; expected one of \["):
        (Dense() >> ReLU() >> Dense()).with_params(**{name: 1.0})


@pytest.mark.parametrize("network", COMPOSITES.values(), ids=COMPOSITES)
def test_with_params_undoes_get_params(network):
    assert network.with_params(**network.get_params(deep=False)) == network
    assert network.with_params(**network.get_params()) == network
    for h in network.hyperparameters:
        value = network.get_params()[h.name]
        changed = network.with_params(**{h.name: value + 0.7})
        assert changed != network
        assert changed.get_params()[h.name] == value + 0.7
        assert changed.with_params(**{h.name: value}) == network


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", COMPOSITES.values(), ids=COMPOSITES)
def test_composites_are_values(network):
    for other in (
        pickle.loads(pickle.dumps(network)),
        copy.deepcopy(network),
        eval(repr(network), vars(kernels).copy()),
    ):
        assert other == network
        assert hash(other) == hash(network)
    assert sum(other == network for other in COMPOSITES.values()) == 1


def test_names_are_part_of_the_value():
    assert Serial((("a", Dense()),)) != Serial((("b", Dense()),))
    assert ParallelSum((("a", Dense()),)) != ParallelConcat((("a", Dense()),))


def test_untrained_reaches_every_layer():
    network = Repeat(Dense() >> ReLU()) >> ParallelSum((("a", Dense()), ("b", Identity())))
    fixed = network.untrained()
    assert not any(v for k, v in fixed.get_params().items() if k.endswith("trained"))
    assert repr(fixed).count("trained=False") == 2


# --- Repeat ------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 5])
def test_repeat_equals_the_chain(times):
    block = Dense(1.5, 0.2) >> LayerNorm() >> ReLU()
    chain = Dense()
    for _ in range(times):
        chain = block >> chain
    repeated = Repeat(block, times) >> Dense()
    for output in ("ntk", "nngp"):
        found, wanted = (NetworkKernel(network, output)(X, Y) for network in (repeated, chain))
        np.testing.assert_array_equal(found, wanted)


def test_repeat_shares_its_hyperparameters():
    kernel = NetworkKernel(Repeat(Dense(bias_var=0.2) >> ReLU(), times=3) >> Dense())
    assert [h.name for h in kernel.hyperparameters if not h.fixed] == [
        "network__repeat__layer__dense__bias_var"
    ]
    assert kernel.n_dims == 1
    moved = kernel.clone_with_theta(np.log([0.5]))
    # Every Dense but the last is one of the repetitions.
    last = Dense(trained=True)
    wanted = NetworkKernel(Repeat(Dense(bias_var=0.5) >> ReLU(), times=3) >> last)
    assert moved == wanted
    np.testing.assert_array_equal(moved(X), wanted(X))


def test_repeat_can_be_nested():
    inner = Repeat(Dense(bias_var=0.1) >> ReLU(), times=2)
    found = NetworkKernel(Repeat(inner, times=3) >> Dense())(X, Y)
    wanted = NetworkKernel(Repeat(Dense(bias_var=0.1) >> ReLU(), times=6) >> Dense())(X, Y)
    np.testing.assert_array_equal(found, wanted)


def test_repeat_drops_features_anew_each_time():
    block = Dense() >> ReLU() >> Dropout(0.5)
    dropped, kept = (
        NetworkKernel(Repeat(layer, times=2) >> Dense(), "nngp", normalize=False)(X)
        for layer in (block, Dense() >> ReLU())
    )
    # Without biases both layers are homogeneous: twice 1 / keep on the diagonal.
    np.testing.assert_allclose(np.diag(dropped), 4.0 * np.diag(kept), rtol=1e-12)


@pytest.mark.parametrize("times", [0, -1, 2.0, True, "twice", None])
def test_repeat_refuses_what_is_no_count(times):
    with pytest.raises(ValueError, match=f"`times` of Repeat is {times!r}; expected a positive"):
        Repeat(Dense(), times=times)


def test_repeat_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match="`layer` of Repeat is 'dense'; expected a layer"):
        Repeat("dense")


def test_repeat_may_change_the_size_of_images():
    network = Repeat(Conv2d(stride=2) >> Abs(), times=2) >> Flatten() >> Dense()
    chain = Conv2d(stride=2) >> Abs() >> Conv2d(stride=2) >> Abs() >> Flatten() >> Dense()
    images = rows(3, 30)
    found, wanted = (NetworkKernel(n, image_shape=(1, 6, 5))(images) for n in (network, chain))
    np.testing.assert_array_equal(found, wanted)
