import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF

from sknk import config_context
from sknk.active_learning import BAIT, LCMD, MaxDet, Random, select_batch
from sknk.active_learning._registry import SELECTORS
from sknk.exceptions import NumericalWarning
from sknk.kernels import NTK, EmpiricalNTK
from tests.cases import rows
from tests.modules import mlp, seeded

POOL, TRAIN = rows(40, d=4), rows(12, d=4, seed=1)
DRAWING = ("random", "kmeans++")
NAMES = sorted(SELECTORS)
NOISE = 0.1


def chosen(method, pool=POOL, **options):
    options = {"batch_size": 8, "noise_variance": NOISE, "random_state": 0} | options
    return select_batch(pool, method=method, **options)


@pytest.mark.parametrize("kernel", [None, NTK(depth=1), RBF()], ids=["features", "ntk", "rbf"])
@pytest.mark.parametrize("train", [None, TRAIN], ids=["no-train", "train"])
@pytest.mark.parametrize("method", NAMES)
def test_batch_is_of_distinct_pool_rows(method, train, kernel):
    found = chosen(method, kernel=kernel, X_train=train)
    assert found.shape == (8,)
    assert found.dtype.kind == "i"
    assert len(np.unique(found)) == 8
    assert 0 <= found.min() <= found.max() < 40


@pytest.mark.parametrize("method", NAMES)
def test_batch_follows_the_seed_and_leaves_global_generators(method):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = chosen(method, X_train=TRAIN)
    np.testing.assert_array_equal(chosen(method, X_train=TRAIN), first)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    differs = any((chosen(method, X_train=TRAIN, random_state=s) != first).any() for s in (1, 2))
    assert differs is (method in DRAWING)


@pytest.mark.parametrize("method", [m for m in NAMES if m not in DRAWING])
def test_kernel_of_features_chooses_as_features(method):
    linear = NTK(depth=0, normalize=False, weight_var=1.0)
    scale = 4.0  # the linear kernel of that network is x.x' / d
    np.testing.assert_allclose(scale * linear(POOL), POOL @ POOL.T, atol=1e-12)
    found = chosen(method, kernel=scale * linear, X_train=TRAIN)
    np.testing.assert_array_equal(found, chosen(method, X_train=TRAIN))


@pytest.mark.parametrize("method", [m for m in NAMES if m not in DRAWING])
@pytest.mark.parametrize("kernel", [None, NTK(depth=1)], ids=["features", "ntk"])
def test_tensors_and_lists_choose_as_arrays(method, kernel):
    expected = chosen(method, kernel=kernel, X_train=TRAIN)
    found = chosen(method, torch.tensor(POOL), kernel=kernel, X_train=torch.tensor(TRAIN))
    np.testing.assert_array_equal(found, expected)
    found = chosen(method, POOL.tolist(), kernel=kernel, X_train=TRAIN.tolist())
    np.testing.assert_array_equal(found, expected)


def test_features_of_single_precision_stay_so():
    seen = []

    class Spy(Random):
        """Looks at what selectors are given."""

        def _select(self, space, size, generator, mode):
            seen.append(space.gram.dtype)
            return super()._select(space, size, generator, mode)

    chosen(Spy(), POOL.astype(np.float32))
    chosen(Spy(), POOL.astype(np.float32), X_train=TRAIN)
    chosen(Spy(), POOL.astype(np.float32), kernel=NTK())
    # Training rows follow the pool; kernels have the dtype that is configured.
    assert seen == [torch.float32, torch.float32, torch.float64]


@pytest.mark.parametrize("method", ["lcmd", "maxdist", "kmeans++"])
def test_modes_of_distances_differ(method):
    near = np.vstack([POOL, TRAIN[:1] + 1e-3])
    posterior, prior = (
        chosen(method, near, X_train=TRAIN, mode=m, batch_size=41) for m in ("P", "TP")
    )
    assert (posterior != prior).any()
    assert prior[-1] == 40  # nearest to a training row


def test_modes_of_maxdet_choose_the_same():
    expected = chosen("maxdet", X_train=TRAIN, mode="P")
    np.testing.assert_array_equal(chosen("maxdet", X_train=TRAIN, mode="TP"), expected)


def test_gradient_features_choose_as_their_kernel():
    net = seeded(lambda: mlp(4, 1))
    sketched = EmpiricalNTK(net, projection=32, sketch="gaussian")
    found = chosen("lcmd", kernel=sketched, X_train=TRAIN)
    features = [sketched.features(part) for part in (POOL, TRAIN)]
    np.testing.assert_array_equal(found, chosen("lcmd", features[0], X_train=features[1]))
    assert len(chosen("lcmd", kernel=EmpiricalNTK(net), X_train=TRAIN)) == 8


def test_forward_backward_is_forward_that_chose_too_many():
    np.testing.assert_array_equal(chosen("bait-fb"), chosen(BAIT(overselect=2.0)))
    np.testing.assert_array_equal(chosen("bait"), chosen(BAIT()))


# --- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NAMES)
def test_only_candidates_are_chosen(method):
    few = np.array([3, 30, 7, 21, 22, 5, 9, 11, 39])
    assert set(chosen(method, candidates=few, X_train=TRAIN)) <= set(few)


def test_candidates_choose_as_a_pool_of_their_own():
    few = np.array([3, 30, 7, 21, 22, 5, 9, 11, 39, 1, 2])
    found = chosen("lcmd", candidates=few, X_train=TRAIN)
    np.testing.assert_array_equal(found, few[chosen("lcmd", POOL[few], X_train=TRAIN)])


@pytest.mark.parametrize("kernel", [None, NTK(depth=1)], ids=["features", "ntk"])
@pytest.mark.parametrize("method", [m for m in NAMES if m not in DRAWING])
def test_candidates_of_tensors_choose_as_of_arrays(method, kernel):
    few = np.random.default_rng(0).permutation(40)[:20]
    expected = few[chosen(method, POOL[few], kernel=kernel, X_train=TRAIN)]
    for pool in (POOL, torch.tensor(POOL)):
        found = chosen(method, pool, kernel=kernel, X_train=TRAIN, candidates=few)
        np.testing.assert_array_equal(found, expected)


def test_a_number_of_candidates_is_drawn():
    found = {tuple(chosen("maxdiag", candidates=8, random_state=s)) for s in range(5)}
    assert len(found) == 5
    np.testing.assert_array_equal(chosen("maxdiag", candidates=100), chosen("maxdiag"))


# --- bonuses -------------------------------------------------------------------------------------


def test_bonus_is_added_to_the_variance_once():
    bonus = np.zeros(40)
    bonus[17] = 1e3
    found = chosen("maxdet", bonus=bonus)
    assert found[0] == 17
    np.testing.assert_array_equal(chosen("maxdet", bonus=np.zeros(40)), chosen("maxdet"))
    few = np.arange(10, 30)
    assert chosen("maxdet", bonus=bonus, candidates=few)[0] == 17


@pytest.mark.parametrize("bonus", [[1.0], [np.nan] * 40], ids=["short", "nan"])
def test_bonus_of_other_rows_is_refused(bonus):
    with pytest.raises(ValueError, match=r"`bonus` has shape.*each of 40 pool rows"):
        chosen("maxdet", bonus=bonus)


def test_bonus_is_refused_by_selectors_without_one():
    with pytest.raises(
        ValueError, match=r"LCMD\(\) takes no `bonus`.*Selectors with one: kecor, maxdet"
    ):
        chosen("lcmd", bonus=np.ones(40))


# --- hard input ----------------------------------------------------------------------------------


def test_batch_is_clipped_to_the_candidates():
    with pytest.warns(UserWarning, match="`batch_size` is 50 and there are 40 candidates"):
        assert sorted(chosen("lcmd", batch_size=50)) == list(range(40))


@pytest.mark.parametrize("method", ["lcmd", "maxdist", "kmeans++"])
def test_batch_of_repeated_rows_is_filled_up_at_random(method):
    pool = np.repeat(POOL[:3], 5, axis=0)
    with pytest.warns(NumericalWarning, match="found 3 rows.*5 more were drawn at random"):
        found = chosen(method, pool)
    assert len(np.unique(found)) == 8
    assert set(found[:3] // 5) == {0, 1, 2}


def test_unknown_method_lists_all():
    with pytest.raises(ValueError, match=r"`method` is 'coreset'.*'bait-fb'.*'lcmd'"):
        chosen("coreset")
    with pytest.raises(TypeError, match="expected a Selector"):
        chosen(NTK())


@pytest.mark.parametrize("noise_variance", [0.0, -1.0, np.nan])
def test_noise_that_is_not_positive_is_refused(noise_variance):
    with pytest.raises(ValueError, match=r"`noise_variance` is .*; expected a positive number"):
        chosen("maxdet", noise_variance=noise_variance)


def test_mode_that_a_selector_lacks_is_refused():
    with pytest.raises(ValueError, match="`mode` is 'TP'; MaxDiag has P"):
        chosen("maxdiag", mode="TP")
    with pytest.raises(ValueError, match="`mode` is 'T'; LCMD has TP, P"):
        chosen(LCMD(), mode="T")


@pytest.mark.parametrize("name", ["X_pool", "X_train"])
@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["array", "tensor"])
def test_rows_that_are_not_finite_are_refused(name, make):
    data = {"X_pool": POOL.copy(), "X_train": TRAIN.copy()}
    data[name][2, 1] = np.nan
    pool, train = make(data["X_pool"]), make(data["X_train"])
    with pytest.raises(ValueError, match=name):
        chosen("lcmd", pool, X_train=train)


def test_training_rows_of_other_width_are_refused():
    with pytest.raises(ValueError, match="`X_train` has 3 features and `X_pool` 4"):
        chosen("lcmd", X_train=TRAIN[:, :3])


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([1, 2, 2], "row 2 2 times"),
        ([1, 40], "has row 40; expected rows from 0 to 39"),
        ([-1, 4], "has row -1"),
        ([0.5, 1.0], "dtype float64"),
        ([[1, 2]], "shape"),
        ([], "shape"),
        (0, "at least one"),
    ],
)
def test_candidates_that_are_no_rows_are_refused(candidates, message):
    with pytest.raises(ValueError, match=f"`candidates` .*{message}"):
        chosen("lcmd", candidates=candidates, batch_size=1)


def test_selector_passed_is_left_as_it_was():
    selector = MaxDet()
    before = dict(vars(selector))
    chosen(selector)
    assert vars(selector) == before


@pytest.mark.gpu
@pytest.mark.parametrize("method", [m for m in NAMES if m not in DRAWING])
@pytest.mark.parametrize("kernel", [None, NTK(depth=1)], ids=["features", "ntk"])
def test_batch_on_gpu_agrees_with_cpu(method, kernel, cuda):
    expected = chosen(method, kernel=kernel, X_train=TRAIN)
    found = chosen(method, kernel=kernel, X_train=TRAIN, device=str(cuda))
    np.testing.assert_array_equal(found, expected)


def test_bait_stores_the_kernel_only_where_it_fits():
    class Counted(NTK):
        """Counts what it is asked for."""

        def matmul(self, X, Y, V):
            asked.append(len(V))
            return super().matmul(X, Y, V)

    asked = []
    fits = chosen("bait", kernel=Counted(depth=1), X_train=TRAIN)
    assert not asked
    with config_context(memory_budget=2 * 52 * 52 * 8 - 1):
        tight = chosen("bait", kernel=Counted(depth=1), X_train=TRAIN)
    assert asked == 8 * [52]
    np.testing.assert_array_equal(tight, fits)


# --- BAIT on a sample -----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [None, NTK(depth=1)])
def test_bait_judged_at_a_sample_is_vtl_there(kernel):
    X = rows(60, d=4, seed=2)
    options = {"batch_size": 6, "kernel": kernel, "noise_variance": 0.1}
    train = X[:10] + 0.1
    found = select_batch(X, method=BAIT(n_judged=20), X_train=train, **options)
    sample = torch.randperm(70, generator=torch.Generator().manual_seed(0))[:20].numpy()
    targets = np.vstack([X, train])[sample]
    expected = select_batch(X, method="vtl", X_train=train, X_target=targets, **options)
    np.testing.assert_array_equal(found, expected)


def test_bait_judged_at_a_sample_is_near_bait():
    X = rows(400, d=3, seed=3)
    kernel = NTK(depth=1, bias_var=0.1)

    def left(method):
        found = select_batch(X, method=method, batch_size=20, kernel=kernel, noise_variance=0.1)
        K = kernel(X)
        G = K[np.ix_(found, found)] + 0.1 * np.eye(20)
        return np.trace(K - K[:, found] @ np.linalg.solve(G, K[found]))

    whole, sample, other = left("bait"), left(BAIT(n_judged=100)), left("random")
    assert whole <= sample < whole + 0.2 * (other - whole)


def test_bait_is_judged_at_one_row_at_least():
    with pytest.raises(ValueError, match="`n_judged` is 0"):
        select_batch(rows(9, d=2), method=BAIT(n_judged=0), batch_size=2)
    everything = select_batch(rows(9, d=2), method=BAIT(n_judged=99), batch_size=2)
    np.testing.assert_array_equal(
        everything, select_batch(rows(9, d=2), method="bait", batch_size=2)
    )
