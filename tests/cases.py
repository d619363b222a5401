"""The objects that the contract suites run over: a new class joins with one line."""

from functools import partial

import numpy as np
from sklearn.ensemble import BaggingRegressor, RandomForestClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from sknk import (
    FeatureLearner,
    NTKGaussianProcessClassifier,
    NTKGaussianProcessRegressor,
    NTKRidge,
    NTKRidgeClassifier,
    NTKRidgeClassifierCV,
    NTKRidgeCV,
)
from sknk.attribution import (
    DataOOB,
    GroupRemoval,
    InfluenceAttributor,
    KNNShapleyAttributor,
    LeaveOneOutAttributor,
    RepresenterAttributor,
    ShapleyAttributor,
    TRAKAttributor,
)
from sknk.bandits import NTKUCB, NeuralTS, NeuralUCB, NTKEpsilonGreedy, NTKThompsonSampling
from sknk.features import EmpiricalNTKFeatures
from sknk.kernels import (
    GELU,
    NNGP,
    NTK,
    ABReLU,
    Abs,
    AvgPool2d,
    Constant,
    Conv2d,
    Cos,
    Dense,
    Dropout,
    EmpiricalNTK,
    Erf,
    Exp,
    ExpNormalized,
    Flatten,
    Gaussian,
    GlobalAvgPool2d,
    Hermite,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mapped,
    Monomial,
    NetworkKernel,
    Normalized,
    OptimalDepthNTK,
    OptimalPolynomial,
    ParallelConcat,
    ParallelProduct,
    ParallelSum,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    ReLU,
    Repeat,
    Sin,
)
from sknk.networks import PowerMLP
from sknk.preprocessing import SmoothClip
from sknk.preprocessing._categories import LevelEncoder
from sknk.preprocessing._scale import NormalScores, SpreadScaler
from sknk.preprocessing._target import SkewTransformer
from tests.modules import AnyWidth, convolutional, mlp, seeded

# --- rows --------------------------------------------------------------------------------------

N_FEATURES = 3  # of every table below; per-feature scales in KERNELS have as many


def rows(n, d=N_FEATURES, seed=0):
    """Standard normal rows (n, d)."""
    return np.random.default_rng(seed).standard_normal((n, d))


def degenerate_rows():
    """Duplicates, near duplicates, a zero row, antipodal and parallel rows, (12, 3)."""
    x = rows(5, seed=3)
    special = [x[0], x[1] + 1e-9, np.zeros(N_FEATURES), -x[2], 3.0 * x[3], -0.5 * x[4], x[0]]
    return np.vstack([x, special])


# --- kernels -----------------------------------------------------------------------------------

FREE = (1e-3, 1e3)  # bounds that make a hyperparameter free
MAP = np.array([[1.0, 0.2, 0.0], [0.2, 0.5, -0.3], [0.0, -0.3, 1.5]])  # of the features

KERNELS = {
    "ntk": NTK(),
    "ntk_linear": NTK(depth=0),
    "ntk_linear_bias": NTK(depth=0, bias_var=0.3),
    "ntk_one_layer": NTK(depth=1),
    "ntk_bias": NTK(bias_var=0.2),
    "ntk_all_free": NTK(
        depth=2, bias_var=0.2, weight_var_bounds=FREE, input_scale=0.8, input_scale_bounds=FREE
    ),
    "ntk_ard": NTK(depth=1, bias_var=0.1, input_scale=[0.5, 1.0, 2.0], input_scale_bounds=FREE),
    "ntk_ard_zero_scale": NTK(depth=1, input_scale=[0.0, 1.0, 2.0]),
    "ntk_fixed_depth": NTK(fixed_depth=2, bias_var=0.2),
    "ntk_last_layer": NTK(fixed_depth=3),
    "ntk_standard": NTK(parametrization="standard", width=64),
    "ntk_standard_bias": NTK(parametrization="standard", width=64, bias_var=0.2, fixed_depth=1),
    "ntk_unnormalized": NTK(bias_var=0.2, normalize=False, weight_var=1.5, weight_var_bounds=FREE),
    "ntk_leaky_relu": NTK(activation="leaky_relu", bias_var=0.2),
    "ntk_leaky_relu_instance": NTK(depth=1, activation=LeakyReLU(0.3)),
    "ntk_abrelu": NTK(activation=ABReLU(-0.5, 1.0), bias_var=0.2),
    "ntk_abs": NTK(activation="abs"),
    "ntk_abs_bias": NTK(activation="abs", bias_var=0.2),
    "ntk_erf": NTK(activation="erf", bias_var=0.2, weight_var_bounds=FREE),
    "ntk_gelu": NTK(activation="gelu", bias_var=0.2),
    "ntk_sin": NTK(activation="sin", bias_var=0.2),
    "ntk_sin_phase": NTK(depth=1, activation=Sin(a=0.7, b=1.3, c=0.4), weight_var=1.0),
    "ntk_rbf": NTK(depth=1, activation="rbf", weight_var=1.0, bias_var=0.1),
    "ntk_cos": NTK(activation=Cos(a=0.9, b=0.7, c=0.3), bias_var=0.2, weight_var_bounds=FREE),
    "ntk_gaussian": NTK(activation=Gaussian(b=-0.7), bias_var=0.2, weight_var_bounds=FREE),
    "ntk_exp": NTK(depth=1, activation=Exp(b=0.3), weight_var=0.5, bias_var=0.2),
    "ntk_gabor": NTK(activation="gabor", weight_var_bounds=FREE),
    "ntk_erf_scaled": NTK(depth=2, activation=Erf(a=0.8, b=0.6, c=0.3), bias_var=0.2),
    "ntk_sigmoid_like": NTK(activation="sigmoid_like", bias_var=0.2),
    "ntk_sign": NTK(depth=2, activation="sign", bias_var=0.2, weight_var_bounds=FREE),
    "ntk_step": NTK(depth=2, activation="step", bias_var=0.2, weight_var_bounds=FREE),
    "ntk_rectified_square": NTK(depth=2, activation="rectified_monomial", weight_var=0.6),
    "ntk_rectified_cube": NTK(depth=1, activation=RectifiedMonomial(3), bias_var=0.2),
    "ntk_exp_normalized": NTK(activation=ExpNormalized(0.8), bias_var=0.2, weight_var=1.0),
    "ntk_monomial": NTK(depth=1, activation=Monomial(3), weight_var=0.5, bias_var=0.2),
    "ntk_polynomial": NTK(depth=1, activation=Polynomial((0.3, 1.0, -0.5)), bias_var=0.2),
    "ntk_hermite": NTK(depth=2, activation="hermite", weight_var=0.5, bias_var=0.2),
    "ntk_optimal_polynomial": NTK(depth=1, activation=OptimalPolynomial(4), weight_var=0.5),
    "ntk_tanh": NTK(depth=2, activation="tanh", bias_var=0.2, weight_var_bounds=FREE),
    "ntk_sigmoid": NTK(depth=2, activation="sigmoid", bias_var=0.2, weight_var=3.0),
    "ntk_softplus": NTK(depth=1, activation="softplus", weight_var_bounds=FREE),
    "ntk_silu": NTK(depth=2, activation="silu", bias_var=0.2),
    "ntk_elu": NTK(depth=2, activation="elu", bias_var=0.2, weight_var_bounds=FREE),
    "ntk_selu": NTK(depth=2, activation="selu", bias_var=0.2),
    "nngp": NNGP(),
    "nngp_linear": NNGP(depth=0),
    "nngp_bias": NNGP(bias_var=0.2, weight_var_bounds=FREE),
    "nngp_ard": NNGP(depth=1, input_scale=[0.5, 1.0, 2.0], input_scale_bounds=FREE),
    "nngp_leaky_relu": NNGP(activation="leaky_relu", normalize=False),
    "nngp_abrelu": NNGP(activation="abrelu"),
    "nngp_abs": NNGP(activation="abs", bias_var=0.2),
    "nngp_erf": NNGP(activation="erf"),
    "nngp_gelu": NNGP(activation="gelu", bias_var=0.2),
    "nngp_sin": NNGP(activation="sin"),
    "nngp_rbf": NNGP(depth=1, activation="rbf", weight_var=1.0, input_scale_bounds=FREE),
    "nngp_cos": NNGP(activation="cos"),
    "nngp_gaussian": NNGP(activation="gaussian", bias_var=0.2),
    "nngp_exp": NNGP(depth=2, activation=Exp(b=0.3), weight_var=0.5),
    "nngp_gabor": NNGP(activation="gabor", bias_var=0.2),
    "nngp_sigmoid_like": NNGP(activation="sigmoid_like"),
    "nngp_sign": NNGP(activation="sign"),
    "nngp_step": NNGP(depth=2, activation="step", bias_var=0.2),
    "nngp_rectified_monomial": NNGP(depth=2, activation="rectified_monomial", weight_var=0.6),
    "nngp_exp_normalized": NNGP(activation="exp_normalized"),
    "nngp_monomial": NNGP(depth=1, activation="monomial", bias_var=0.2),
    "nngp_polynomial": NNGP(depth=2, activation=Polynomial((0.3, 1.0, -0.5)), weight_var=0.5),
    "nngp_hermite": NNGP(depth=1, activation=Hermite(3), weight_var=0.5),
    "nngp_optimal_polynomial": NNGP(depth=1, activation=OptimalPolynomial(3), weight_var=0.5),
    "nngp_tanh": NNGP(depth=2, activation="tanh"),
    "nngp_sigmoid": NNGP(activation="sigmoid"),
    "nngp_softplus": NNGP(depth=1, activation="softplus", bias_var=0.2),
    "nngp_silu": NNGP(depth=2, activation="silu"),
    "nngp_elu": NNGP(depth=2, activation="elu"),
    "nngp_selu": NNGP(depth=2, activation="selu", weight_var=1.0),
    "optimal_depth": OptimalDepthNTK(),
    "optimal_depth_smooth": OptimalDepthNTK(intrinsic_dim=5, depth=3),
    "mapped_scales": Mapped(NTK(bias_var=0.2), [0.5, 1.0, 2.0]),
    "mapped": 0.5 * Mapped(NTK(depth=1), MAP),
    "mapped_down": Mapped(NNGP(depth=1, bias_var=0.1), MAP[:, :2]),
    "normalized": Normalized(NTK(bias_var=0.2)),
    "normalized_no_bias": Normalized(NTK(depth=2)),
    "sum": NTK(depth=1) + NNGP(depth=2, bias_var=0.1),
    "product": NTK(depth=1, bias_var=0.1) * NNGP(depth=2, activation="erf"),
    "scale": 2.5 * NTK(depth=2),
    "constant": Constant(0.7),
    "intercept": NTK(depth=2) + 0.5,
    "nested": 0.5 * (Normalized(NTK(bias_var=0.1)) + NTK(depth=1) * NNGP(bias_var=0.3)) + 0.1,
}

# --- layers ------------------------------------------------------------------------------------

# Networks of every layer. Rows of the tables above are images of one by three pixels here.
IMAGE = (1, 1, 3)
BIASED = Dense(bias_var=0.2, weight_var_bounds=FREE)
BRANCH = Dense() >> ReLU() >> Dense()
BRANCHES = (("skip", Identity()), ("branch", BRANCH))
NETWORKS = {
    "dense": BIASED >> ReLU() >> Dense(),
    "dense_fan_in": Dense(bias_var=0.5, fan_in=3) >> ReLU() >> Dense(fan_in=8),
    "dense_fixed": Dense(trained=False) >> Abs() >> Dense(bias_var=0.2),
    "layer_norm": Repeat(BIASED >> LayerNorm() >> ReLU(), times=2) >> Dense(),
    "dropout": BIASED >> ReLU() >> Dropout(0.3) >> Dense() >> Erf() >> Dropout(0.1) >> Dense(),
    "residual": BIASED >> ParallelSum(BRANCHES) >> ReLU() >> Dense(),
    "residual_smooth": Dense() >> ParallelSum((*BRANCHES, ("erf", Erf() >> Dense()))) >> Dense(),
    "product": ParallelProduct((("a", BRANCH), ("b", BIASED))) >> Dense() >> ReLU() >> Dense(),
    "concat": Dense()
    >> ParallelConcat((("a", ReLU()), ("b", Abs())), widths=(1.0, 3.0))
    >> Dense(),
    "mixed": BIASED >> ReLU() >> Dense() >> GELU() >> Dense(0.5) >> Rbf(0.3) >> Dense(),
}
IMAGE_NETWORKS = {
    "flatten": Conv2d(bias_var=0.2, weight_var_bounds=FREE) >> ReLU() >> Flatten() >> Dense(),
    "conv_valid": Conv2d(size=1, padding="valid") >> Erf() >> Conv2d() >> Flatten() >> Dense(),
    "conv_stride": Conv2d(stride=2) >> ReLU() >> GlobalAvgPool2d() >> Dense(bias_var=0.1),
    "pool": Conv2d() >> ReLU() >> AvgPool2d(1) >> Conv2d(size=2) >> ReLU() >> GlobalAvgPool2d(),
    "pool_flatten": Conv2d(bias_var=0.1) >> AvgPool2d(1) >> Abs() >> Flatten() >> Dense(),
    "image_dropout": Conv2d() >> ReLU() >> Dropout(0.2) >> Conv2d() >> ReLU() >> GlobalAvgPool2d(),
}

KERNELS |= {f"network_{name}": NetworkKernel(network) for name, network in NETWORKS.items()}
KERNELS |= {
    f"image_{name}": NetworkKernel(network, image_shape=IMAGE)
    for name, network in IMAGE_NETWORKS.items()
}
KERNELS |= {
    "network_nngp": NetworkKernel(NETWORKS["residual"], output="nngp", normalize=False),
    "image_nngp": NetworkKernel(IMAGE_NETWORKS["pool"], output="nngp", image_shape=IMAGE),
    "network_sum": NetworkKernel(NETWORKS["dense"]) + 0.5 * NTK(depth=1),
}

# --- torch modules -----------------------------------------------------------------------------

MODULE = seeded(lambda: mlp(N_FEATURES, 2))
EMPIRICAL = {
    "trace": EmpiricalNTK(MODULE),
    "pseudo": EmpiricalNTK(MODULE, "pseudo"),
    "sign": EmpiricalNTK(MODULE, "sign"),
    "last_layer": EmpiricalNTK(MODULE, "last_layer"),
    "embedding": EmpiricalNTK(MODULE, "embedding"),
    "jacobian": EmpiricalNTK(MODULE, implementation="jacobian"),
    "vector_products": EmpiricalNTK(MODULE, implementation="vector_products"),
    "loop": EmpiricalNTK(MODULE, implementation="loop"),
    "projection": EmpiricalNTK(MODULE, projection=20),
    "sparse": EmpiricalNTK(
        MODULE, "pseudo", "*.weight", projection=20, sketch="sparse", chunk_size=2, random_state=1
    ),
    "image": EmpiricalNTK(seeded(lambda: convolutional(2)), input_shape=IMAGE),
}
KERNELS |= {f"empirical_{name}": kernel for name, kernel in EMPIRICAL.items()}
KERNELS |= {
    "empirical_normalized": Normalized(EMPIRICAL["trace"]),
    "empirical_sum": 0.5 * EMPIRICAL["pseudo"] + NTK(depth=1, bias_var=0.1),
}
ANY_WIDTH = seeded(AnyWidth)

# --- estimators --------------------------------------------------------------------------------

SEARCH = {"param_grid": {"depth": [1, 2]}, "alphas": [0.1, 1.0]}  # small, to keep time down
FEW = {"max_evaluations": 2}  # the same for hyperparameters of Gaussian processes
KNOWN_CLASSES = {"amplitude": 10.0, "alpha_eps": 0.01, "optimizer": None}
KNOWN = {"amplitude": 1.0, "noise_variance": 0.1, "optimizer": None}

# Every configuration that takes another path through the code.
ESTIMATORS = [
    NTKRidge(),
    NTKRidge(NTK(depth=1, bias_var=0.1), alpha=0.1, solver="cholesky"),
    NTKRidge(NNGP(depth=1), solver="eigh", fit_intercept=False),
    NTKRidge(RBF()),
    NTKRidge(EmpiricalNTK(ANY_WIDTH)),
    NTKRidge("precomputed", alpha=10.0),
    NTKRidgeClassifier(),
    NTKRidgeClassifier(NTK(depth=1), solver="cholesky", class_weight="balanced"),
    # Without intercept and bias, f(-x) mirrors f(x): no class can win everywhere, as checks ask.
    NTKRidgeClassifier(NNGP(bias_var=1.0), solver="eigh", fit_intercept=False),
    NTKRidgeClassifier(RBF()),
    NTKRidgeClassifier(EmpiricalNTK(ANY_WIDTH, "pseudo"), alpha=0.01),
    NTKRidgeClassifier("precomputed", alpha=10.0),
    NTKRidgeCV(**SEARCH),
    NTKRidgeCV(NTK(), scoring="r2", fit_intercept=False, **SEARCH),
    NTKRidgeCV(NNGP(), cv=3, **SEARCH),
    NTKRidgeCV(RBF(), param_grid={"length_scale": [0.5, 1.0]}, alphas=[0.1]),
    NTKRidgeCV("precomputed", alphas=[10.0, 100.0]),
    NTKRidgeCV(feature_learning="auto", max_rounds=1, **SEARCH),
    NTKRidgeCV(feature_learning="ard", search_rows=20, **SEARCH),
    NTKRidgeClassifierCV(**SEARCH),
    NTKRidgeClassifierCV(NTK(), scoring="roc_auc_ovr", **SEARCH),
    NTKRidgeClassifierCV(NTK(), cv=3, scoring="accuracy", class_weight="balanced", **SEARCH),
    NTKRidgeClassifierCV(NNGP(bias_var=0.1), fit_intercept=False, alphas=[0.1, 1.0]),
    NTKRidgeClassifierCV(RBF(), param_grid={"length_scale": [0.5, 1.0]}, alphas=[0.1]),
    NTKRidgeClassifierCV("precomputed", alphas=[10.0, 100.0]),
    NTKRidgeClassifierCV(feature_learning="auto", max_rounds=1, **SEARCH),
    NTKRidgeClassifierCV(feature_learning="agop", search_rows=20, **SEARCH),
    NTKGaussianProcessRegressor(**FEW),
    NTKGaussianProcessRegressor(NTK(depth=1, bias_var=0.1), posterior="nngp", **FEW),
    NTKGaussianProcessRegressor(NTK(depth=1), posterior="ensemble", **FEW),
    NTKGaussianProcessRegressor(NTK(depth=1), training_time=2.0, **FEW),
    NTKGaussianProcessRegressor(NTK(depth=1), posterior="ensemble", training_time=2.0, **FEW),
    NTKGaussianProcessRegressor(
        NTK(depth=1), prior="student", random_state=0, n_restarts_optimizer=1, **FEW
    ),
    NTKGaussianProcessRegressor(NTK(depth=1), ard=True, **FEW),
    # Which rows are inducing depends on their order; checks with few rows take them all.
    NTKGaussianProcessRegressor(NTK(depth=1), rank=150, random_state=0, **FEW),
    NTKGaussianProcessRegressor(NTK(depth=1), evidence="stochastic", max_epochs=2, random_state=0),
    NTKGaussianProcessRegressor(NTK(depth=1), normalize_y=True, **FEW),
    NTKGaussianProcessRegressor(RBF(), **FEW),
    NTKGaussianProcessRegressor(EmpiricalNTK(ANY_WIDTH), **FEW),
    NTKGaussianProcessRegressor(NTK(depth=1), **KNOWN),
    NTKGaussianProcessClassifier(**FEW),
    NTKGaussianProcessClassifier(NTK(depth=1, bias_var=0.1), **KNOWN_CLASSES),
    # Without bias f(-x) mirrors f(x), as above.
    NTKGaussianProcessClassifier(NTK(bias_var=0.1), prior="student", ard=True, **FEW),
    NTKGaussianProcessClassifier(NTK(depth=1), inference="laplace", **FEW),
    NTKGaussianProcessClassifier(
        NTK(depth=1), inference="laplace", class_weight="balanced", optimizer=None, amplitude=4.0
    ),
    NTKGaussianProcessClassifier(
        NTK(depth=1), inference="variational", rank=20, max_epochs=5, random_state=0
    ),
    NTKGaussianProcessClassifier(RBF(), class_weight="balanced", **FEW),
]

CODES = OrdinalEncoder(
    handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
)
LEVELS = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
TRANSFORMERS = [
    EmpiricalNTKFeatures(ANY_WIDTH, n_components=8),
    EmpiricalNTKFeatures(ANY_WIDTH, n_components=8, kind="pseudo", sketch="sparse"),
    FeatureLearner(NTKRidgeCV(feature_learning="agop", max_rounds=1, **SEARCH)),
    FeatureLearner(NTKRidgeClassifierCV(feature_learning="agop_diag", max_rounds=1, **SEARCH)),
    SmoothClip(),
    SmoothClip(limit=0.5),
    SpreadScaler(),
    SpreadScaler(robust=False),
    NormalScores(),
    NormalScores(n_quantiles=5),
    SkewTransformer(),
    SkewTransformer(threshold=0.0),
    LevelEncoder(CODES),
    LevelEncoder(LEVELS),
]

# In float32 where the checks' tolerances, relative 1e-7, do not apply.
ESTIMATORS_FLOAT32 = [
    NTKRidge(dtype="float32"),
    NTKRidgeClassifier(dtype="float32"),
    NTKRidgeCV(dtype="float32", **SEARCH),
    NTKRidgeClassifierCV(dtype="float32", **SEARCH),
    NTKGaussianProcessRegressor(dtype="float32", **KNOWN),
    NTKGaussianProcessClassifier(dtype="float32", **KNOWN_CLASSES),
    NTKGaussianProcessClassifier(
        inference="laplace", optimizer=None, amplitude=4.0, dtype="float32"
    ),
]

# --- attributors -------------------------------------------------------------------------------

ORDERS = {"sampler": "permutation", "n_iter": 9, "random_state": 0}
STRATA = {"n_iter": 2, "random_state": 0}
ATTRIBUTORS = [
    LeaveOneOutAttributor(),
    LeaveOneOutAttributor(NTKRidge()),
    LeaveOneOutAttributor(NTKRidgeClassifier(), utility="log_prob"),
    LeaveOneOutAttributor(NTKGaussianProcessClassifier(NTK(depth=1), **KNOWN_CLASSES)),
    LeaveOneOutAttributor(make_pipeline(StandardScaler(), NTKRidge())),
    InfluenceAttributor(NTKRidge()),
    InfluenceAttributor(NTKGaussianProcessRegressor(**KNOWN), utility="log_prob"),
    RepresenterAttributor(NTKRidgeClassifier()),
    GroupRemoval(NTKRidge()),
    ShapleyAttributor(NTKRidge(), **STRATA),
    ShapleyAttributor(NTKRidge(), utility="mse", warm_start=True, **ORDERS),
    ShapleyAttributor(NTKRidgeClassifier(), semivalues=("banzhaf", (4, 1)), **ORDERS),
    ShapleyAttributor(NTKRidge(), **{**ORDERS, "sampler": "antithetic"}),
    ShapleyAttributor(NTKGaussianProcessRegressor(**KNOWN), **ORDERS),
    KNNShapleyAttributor(),
    KNNShapleyAttributor(variant="soft"),
    KNNShapleyAttributor(3, variant="threshold"),
    KNNShapleyAttributor(kernel=NTK(depth=1, bias_var=0.1)),
    DataOOB(RandomForestClassifier(50, random_state=0)),
    DataOOB(BaggingRegressor(n_estimators=50, random_state=0)),
    TRAKAttributor(seeded(lambda: AnyWidth(outputs=10)), 16),
    TRAKAttributor(seeded(lambda: AnyWidth(outputs=1)), 16, task="regression"),
]

# --- bandits -----------------------------------------------------------------------------------

TINY = partial(PowerMLP, hidden=(8,), power=2)
BANDITS = [
    NTKUCB(),
    NTKUCB(encoding="disjoint", normalize_reward=True),
    NTKUCB(NTK(depth=1, bias_var=0.2), beta="theory"),
    NTKUCB(NTK(depth=1), encoding="features", arm_features=np.eye(3)),
    NTKUCB(NTK(depth=1), encoding="columns", beta="gp-ucb"),
    NTKUCB(memory=15),
    NTKUCB(budget=20),
    NTKUCB(memory=0.9),
    NTKThompsonSampling(),
    NTKThompsonSampling(encoding="disjoint", draws="independent", optimism=2),
    NTKEpsilonGreedy(),
    NeuralUCB(TINY, max_epochs=2),
    NeuralUCB(TINY, width="diagonal", max_epochs=2),
    NeuralUCB(TINY, gradients="initial", encoding="columns", max_epochs=2),
    NeuralTS(TINY, encoding="features", arm_features=np.eye(3), max_epochs=2),
]
