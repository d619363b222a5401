"""Every small module of `tests.zoo` by every implementation, against backward passes one by one.

Unless a test says otherwise its tolerance is 1e-10 of the largest entry: products of a few hundred
float64 numbers differ by 1e-15, and modules with exponentials amplify that.
"""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from sknk import NTKRidge, NTKRidgeClassifier
from sknk._config import config_context
from sknk.kernels import EmpiricalNTK, linearize
from tests.cases import rows
from tests.reference import empirical
from tests.zoo import ZOO, make

X, Y = rows(3, 16), rows(2, 16, seed=1)
LABELS, OTHERS = np.array([0, 1, 1]), np.array([1, 0])
for table in (X, Y):
    table.flags.writeable = False

# Every parameter of these belongs to a layer that has a rule and is called on rows.
STRUCTURED = {
    "delta_rule",
    "learned_kernel_attention",
    "replknet",
    "gaussian_attention",
    "soft",
    "one_layer_attention",
    "inception_next",
    "autoencoder",
    "polar",
    "spder",
    "hybrid_eviction",
    "pi_net",
    "siren",
}
# What the others have instead, as the refusal names it.
REFUSED = {
    "ntk_attention": "NTKAttention owns 'Z'",
    "ckconv": "CKConv owns 'bias'",
    "tcsr": "_Neighborhood 'attention' owns 'attention.bias'",
    "neighborhood_attention": "_Neighborhood 'attention' owns 'attention.bias'",
    "kerple": "KERPLE owns 'raw1'",
    "gdn": "GDN owns 'beta'",
    "adalin": "AdaLIN owns 'rho'",
    "integral_operator": "layer 'kappa.0' sees other rows",  # it is called on a grid
    "mgno": "ConvTranspose2d 'P' owns 'P.weight'",
    "fno": "FNO owns 'R'",
    "local_operator": "LocalOperator owns 'k'",
    "sau": "_SAU 'layers.1' owns 'layers.1.alpha'",
    "idw_attention": "IDWAttention owns 'keys'",
    "smpconv": "SMPConv owns 'p'",
    "nn_to_no": "NNToNO owns 'k'",
}
GRADIENTS = [("structured", name) for name in ZOO if name in STRUCTURED]
GRADIENTS += [(kind, name) for kind in ("jacobian", "loop") for name in ZOO]
EVERY = [*GRADIENTS, *(("vector_products", name) for name in ZOO)]

each = pytest.mark.parametrize("name", ZOO)
each_way = pytest.mark.parametrize(("implementation", "name"), EVERY)
each_way_with_gradients = pytest.mark.parametrize(("implementation", "name"), GRADIENTS)


def assert_close(actual, desired, rtol=1e-10):
    """Compare entries on the scale of the largest."""
    scale = np.abs(desired).max()
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * scale)


made = cache(make)


@cache
def jacobians(name):
    """Of the rows of X and of Y, by backward passes."""
    return empirical.jacobian(made(name), X), empirical.jacobian(made(name), Y)


@cache
def gram(name, implementation):
    return EmpiricalNTK(made(name), implementation=implementation)(X)


@cache
def full(name, implementation):
    return EmpiricalNTK(made(name), implementation=implementation).full(X)


# --- values ------------------------------------------------------------------------------------


@each_way
def test_trace_kernel_equals_backward_passes(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), implementation=implementation)
    assert_close(gram(name, implementation), empirical.trace(J))
    assert_close(kernel(X, Y), empirical.trace(J, L))
    assert_close(kernel.diag(X), np.diag(empirical.trace(J)))


@each_way
def test_kernel_of_outputs_equals_backward_passes(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), implementation=implementation)
    assert_close(full(name, implementation), empirical.full(J))
    assert_close(kernel.full(X, Y), empirical.full(J, L))
    assert_close(kernel.per_output(X, Y), empirical.per_output(J, L))


@each_way
def test_pseudo_kernel_equals_backward_passes(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), kind="pseudo", implementation=implementation)
    assert_close(kernel(X, Y), empirical.pseudo(J, L))
    assert_close(kernel.diag(X), np.diag(empirical.pseudo(J)))


@each_way
def test_labelled_kernel_equals_backward_passes(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), implementation=implementation)
    found = kernel.labelled(X, LABELS, Y, OTHERS)
    assert_close(found, empirical.labelled(J, LABELS, L, OTHERS))


@each_way_with_gradients
def test_sign_kernels_equal_backward_passes(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), kind="sign", implementation=implementation)
    assert_close(kernel(X, Y), empirical.sign(J, L))
    assert_close(kernel.diag(X), np.diag(empirical.sign(J)))
    assert_close(kernel.asymmetric_sign(X), empirical.asymmetric_sign(J))
    assert_close(kernel.asymmetric_sign(X, Y), empirical.asymmetric_sign(J, L))


@each_way_with_gradients
def test_layerwise_kernels_equal_backward_passes(implementation, name):
    J, L = jacobians(name)
    found = EmpiricalNTK(made(name), implementation=implementation).layerwise(X, Y)
    assert list(found) == list(J.slices)
    for parameter, K in empirical.layerwise(J, L).items():
        # A parameter that does not matter (a router's) has a kernel of zeros.
        np.testing.assert_allclose(found[parameter], K, rtol=1e-10, atol=1e-10 * np.abs(K).max())


@each
def test_layerwise_kernels_sum_to_the_kernel(name):
    kernel = EmpiricalNTK(made(name))
    assert_close(sum(kernel.layerwise(X).values()), kernel(X))


@each_way
def test_gram_is_symmetric_and_positive_semidefinite(implementation, name):
    for K in (gram(name, implementation), full(name, implementation)):
        np.testing.assert_array_equal(K, K.T)
        # Rounding of products of rows moves eigenvalues by n eps times the trace.
        assert np.linalg.eigvalsh(K)[0] >= -len(K) * 2.0**-52 * np.trace(K)


@each_way
def test_gram_does_not_depend_on_chunks_and_tiles(implementation, name):
    kernel = EmpiricalNTK(made(name), implementation=implementation)
    chunked = EmpiricalNTK(made(name), implementation=implementation, chunk_size=2)
    wanted = gram(name, implementation)
    # 1e-13: a few hundred roundings, as sums are grouped in another way.
    assert_close(chunked(X), wanted, rtol=1e-13)
    with config_context(tile_size=2):
        assert_close(kernel(X), wanted, rtol=1e-13)


@each
def test_forms_do_not_depend_on_chunks_and_tiles(name):
    def results(kernel):
        yield from (kernel.diag(X), kernel.full(X), kernel.per_output(X))
        yield kernel.labelled(X, LABELS)
        yield from (kernel.asymmetric_sign(X), *kernel.layerwise(X).values())

    wanted = list(results(EmpiricalNTK(made(name))))
    with config_context(tile_size=2):
        found = list(results(EmpiricalNTK(made(name), chunk_size=1)))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13 * np.abs(b).max())


@each_way
def test_matmul_equals_gram_times_v(implementation, name):
    (J, _), (L, _) = jacobians(name)
    kernel = EmpiricalNTK(made(name), implementation=implementation)
    auto, cross = rows(3, 2, seed=2), rows(2, 1, seed=3)[:, 0]
    assert_close(kernel.matmul(X, None, auto), gram(name, implementation) @ auto)
    assert_close(kernel.matmul(X, Y, cross), empirical.trace(J, L) @ cross)


@each
def test_matmul_equals_gram_times_v_when_the_implementation_is_chosen(name):
    (J, _), (L, _) = jacobians(name)
    kernel, V = EmpiricalNTK(made(name)), rows(2, 3, seed=9)
    assert_close(kernel.matmul(X, Y, V), empirical.trace(J, L) @ V)
    assert_close(kernel.matmul(X, Y, V[:, 0]), empirical.trace(J, L) @ V[:, 0])


# --- choices -----------------------------------------------------------------------------------


def test_tables_cover_the_zoo():
    assert STRUCTURED | REFUSED.keys() == ZOO.keys()
    assert not STRUCTURED & REFUSED.keys()


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_structured_names_the_layer_when_it_refuses(name, reason):
    kernel = EmpiricalNTK(made(name), implementation="structured")
    with pytest.raises(ValueError, match=f"structured: {reason}"):
        kernel(X)


@each
def test_automatic_choice_is_the_first_that_serves(name):
    chosen = EmpiricalNTK(made(name)).choose_implementation(X)
    assert chosen.name == ("structured" if name in STRUCTURED else "jacobian")
    assert chosen.refusals.keys() == (set() if name in STRUCTURED else {"structured"})
    sketched = EmpiricalNTK(made(name), projection=4)
    assert sketched.choose_implementation(X).name == "vector_products"


@each
@pytest.mark.parametrize("form", ["asymmetric_sign", "sign"])
def test_vector_products_refuse_signs(form, name):
    kind = "sign" if form == "sign" else "trace"
    kernel = EmpiricalNTK(made(name), kind=kind, implementation="vector_products")
    with pytest.raises(ValueError, match="'vector_products', which cannot form"):
        kernel(X) if form == "sign" else kernel.asymmetric_sign(X)


# --- sketches ----------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("sketch", ["rademacher", "sparse", "gaussian"])
def test_features_do_not_depend_on_the_implementation(sketch, name):
    ways = [way for way, other in EVERY if other == name]
    ways = [way for way in ways if sketch == "rademacher" or way != "vector_products"]
    kernels = [EmpiricalNTK(made(name), "trace", None, 20, sketch, way) for way in ways]
    first, *others = (kernel.features(X) for kernel in kernels)
    assert first.shape == (3, 20)
    for Z in others:
        assert_close(Z, first)
    assert_close(kernels[0](X, Y), first @ kernels[0].features(Y).T)


# --- the first-order model ---------------------------------------------------------------------


def as_arrays(flat, jacobian, module):
    """Cut a vector of all parameters into arrays of their shapes, complex ones as pairs."""
    shapes = {
        name: (*p.shape, 2) if p.is_complex() else tuple(p.shape)
        for name, p in module.named_parameters()
    }
    return {name: flat[s].reshape(shapes[name]) for name, s in jacobian.slices.items()}


@each
def test_linearization_equals_backward_passes(name):
    jacobian, model = jacobians(name)[0], linearize(made(name))
    J = jacobian.J
    v, u = rows(1, J.shape[2], seed=4)[0], rows(*J.shape[:2], seed=5)
    with torch.no_grad():
        assert_close(model.f0(X), made(name)(torch.tensor(X)).numpy())
    assert_close(model.jvp(X, as_arrays(v, jacobian, made(name))), J @ v)
    found = model.vjp(X, u)
    for parameter, g in as_arrays(np.einsum("nop,no->p", J, u), jacobian, made(name)).items():
        assert found[parameter].shape == g.shape
        np.testing.assert_allclose(found[parameter], g, rtol=1e-10, atol=1e-10 * np.abs(g).max())


@each
def test_linearization_multiplies_by_the_full_kernel(name):
    (J, _), (L, _) = jacobians(name)
    V = rows(*L.shape[:2], seed=6)
    wanted = (empirical.full(J, L) @ V.ravel()).reshape(J.shape[:2])
    assert_close(linearize(made(name)).kernel_matmul(X, Y, V), wanted)
    assert_close(linearize(made(name), chunk_size=2).kernel_matmul(X, Y, V), wanted)


# --- estimators --------------------------------------------------------------------------------


@each
def test_ridge_equals_the_formula(name):
    model = NTKRidge(EmpiricalNTK(made(name)), alpha=0.1, fit_intercept=False)
    targets = rows(3, 2, seed=7)
    (J, _), (L, _) = jacobians(name)
    K = empirical.trace(J)
    wanted = empirical.trace(L, J) @ np.linalg.solve(K + 0.1 * np.eye(3), targets)
    # 1e-9: the condition of K + 0.1 I, at most 1e4 here, times the kernel's 1e-15.
    assert np.linalg.cond(K + 0.1 * np.eye(3)) < 1e5
    assert_close(model.fit(X, targets).predict(Y), wanted, rtol=1e-9)


@each
def test_classifier_gives_probabilities_and_learns_its_rows(name):
    model = NTKRidgeClassifier(EmpiricalNTK(made(name)), alpha=1e-6).fit(X, LABELS)
    found = model.predict_proba(Y)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
    assert (found > 0).all()
    np.testing.assert_array_equal(model.predict(X), LABELS)


@each
def test_grid_search_finds_kind_and_alpha(name):
    grid = [{"kernel__kind": ["trace"], "alpha": [0.1]}, {"kernel__kind": ["pseudo"]}]
    search = GridSearchCV(NTKRidge(EmpiricalNTK(made(name))), grid, cv=2)
    search.fit(np.vstack([X, Y]), rows(5, 2, seed=8))
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 2
    assert np.isfinite(search.predict(Y)).all()
    assert search.predict(Y).shape == (2, 2)


# --- the module --------------------------------------------------------------------------------

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def what_must_stay(module):
    """State of a module that a kernel must not touch."""
    return {
        "tensors": {name: t.clone() for name, t in module.state_dict().items()},
        "identities": [id(p) for p in module.parameters()],
        "modes": [part.training for part in module.modules()],
        "differentiable": [p.requires_grad for p in module.parameters()],
        "gradients": [p.grad for p in module.parameters()],
        "hooks": [len(getattr(part, name)) for part in module.modules() for name in _HOOKS],
        "attributes": [sorted(vars(part)) for part in module.modules()],
        "random": torch.get_rng_state(),
    }


def assert_left_alone(module, before):
    after = what_must_stay(module)
    for name, t in before.pop("tensors").items():
        assert torch.equal(t, after["tensors"][name])
    assert torch.equal(before.pop("random"), after["random"])
    assert before == {key: after[key] for key in before}
    assert after["gradients"] == [None] * len(after["gradients"])
    assert set(after["hooks"]) == {0}


@each
def test_module_and_rows_are_left_alone(name):
    module, x, y = make(name), X[:2].copy(), Y.copy()
    for position, part in enumerate(module.modules()):
        part.training = position % 2 == 0
    next(module.parameters()).requires_grad_(False)
    before = what_must_stay(module)
    for way in [way for way, other in EVERY if other == name]:
        kernel = EmpiricalNTK(module, implementation=way)
        kernel(x, y), kernel.matmul(x, y, np.ones(2))
    kernel, projected = EmpiricalNTK(module), EmpiricalNTK(module, projection=4)
    outputs = len(kernel.per_output(x))
    kernel.full(x), kernel.vjp(x, y, np.ones((2, 2)))
    kernel.layerwise(x), kernel.asymmetric_sign(x), kernel.labelled(x, [0, 1]), projected(x)
    linearize(module).kernel_matmul(x, y, np.ones((2, outputs)))
    NTKRidge(kernel).fit(x, [0.0, 1.0]).predict(y)
    assert_left_alone(module, before)
    np.testing.assert_array_equal(x, X[:2])
    np.testing.assert_array_equal(y, Y)
