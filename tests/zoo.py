"""Small modules on which every way to compute a tangent kernel has to agree.

Each maps (n, 16) to (n, 2), the autoencoder to (n, 16), row by row. Their docstrings start with
the number of the method in our list of methods.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo_attention import (
    KERPLE,
    SOFT,
    TCSR,
    DeltaRule,
    GaussianAttention,
    HybridEviction,
    IDWAttention,
    LearnedKernelAttention,
    NeighborhoodAttention,
    NTKAttention,
    OneLayerAttention,
    Polar,
    tokens,
)


class _Sine(nn.Module):
    def __init__(self, d_in, d_out, bound):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(30 * self.linear(x))


class CKConv(nn.Module):
    """52: y_t = ReLU(Σ_{τ≤t} ψ(τ) x_{t−τ}) by FFT, ψ an MLP of sines."""

    def __init__(self):
        super().__init__()
        hidden = _Sine(6, 6, 1 / 30)  # √(6/6)/30
        self.psi = nn.Sequential(_Sine(1, 6, 1.0), hidden, nn.Linear(6, 3 * 2))
        self.bias = nn.Parameter(torch.randn(3) / 4)
        self.out = nn.Linear(24, 2)
        self.register_buffer("tau", torch.arange(8)[:, None] / 4 - 1)

    def forward(self, x):
        kernel = self.psi(self.tau).reshape(8, 2, 3)
        # Twice the length, so that the circular convolution of the FFT does not wrap around.
        spectrum = torch.fft.rfft(tokens(x, 8), n=16, dim=1)
        product = torch.einsum("nfi,fio->nfo", spectrum, torch.fft.rfft(kernel, n=16, dim=0))
        y = torch.fft.irfft(product, n=16, dim=1)[:, :8]
        return self.out(torch.relu(y + self.bias).flatten(1))


class RepLKNet(nn.Module):
    """72: z + 1×1(GELU(DW7×7(z) + DW3×3(z)))."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv2d(1, 3, 1)
        self.large = nn.Conv2d(3, 3, 7, padding=3, groups=3)
        self.small = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.mix = nn.Conv2d(3, 3, 1)
        self.out = nn.Linear(48, 2)

    def forward(self, x):
        z = self.lift(x.reshape(-1, 1, 4, 4))
        return self.out((z + self.mix(F.gelu(self.large(z) + self.small(z)))).flatten(1))


class GDN(nn.Module):
    """77: u / (β + |u|^α Γ)^ε, with β and Γ positive by softplus."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(16, 6)
        self.beta = nn.Parameter(torch.randn(6))
        self.gamma = nn.Parameter(torch.randn(6, 6))
        self.alpha = nn.Parameter(torch.tensor(1.5))
        self.epsilon = nn.Parameter(torch.tensor(0.5))
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        u = self.lift(x)
        pool = F.softplus(self.beta) + u.abs() ** self.alpha @ F.softplus(self.gamma)
        return self.out(u / pool**self.epsilon)


class AdaLIN(nn.Module):
    """81: γ (ρ IN + (1−ρ) LN) + β, (γ, β) = FC(pool), ρ in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv2d(1, 3, 3, padding=1)
        self.fc = nn.Linear(3, 6)
        self.rho = nn.Parameter(torch.rand(3, 1, 1))
        self.out = nn.Linear(48, 2)

    @staticmethod
    def standardize(z, dims):
        variance, mean = torch.var_mean(z, dims, correction=0, keepdim=True)
        return (z - mean) / torch.sqrt(variance + 1e-5)

    def forward(self, x):
        z = self.lift(x.reshape(-1, 1, 4, 4))
        gamma, beta = self.fc(z.mean((2, 3)))[:, :, None, None].chunk(2, 1)
        rho = self.rho.clamp(0, 1)
        instance, layer = self.standardize(z, (2, 3)), self.standardize(z, (1, 2, 3))
        return self.out((gamma * (rho * instance + (1 - rho) * layer) + beta).flatten(1))


class IntegralOperator(nn.Module):
    """83: GELU(W v + mean_j κ_θ(x_i, x_j) v_j), κ an MLP."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(2, 3)
        self.W = nn.Linear(3, 3)
        self.kappa = nn.Sequential(nn.Linear(2, 6), nn.GELU(), nn.Linear(6, 9))
        self.out = nn.Linear(24, 2)
        points = torch.arange(8) / 8
        self.register_buffer("pairs", torch.cartesian_prod(points, points).reshape(8, 8, 2))

    def forward(self, x):
        v = self.lift(tokens(x, 8))
        kernel = self.kappa(self.pairs).reshape(8, 8, 3, 3)
        integral = torch.einsum("ijoc,njc->nio", kernel, v) / 8
        return self.out(F.gelu(self.W(v) + integral).flatten(1))


class MgNO(nn.Module):
    """85: u = S0 f; r = R(f − A u); u += P S1 r; u += S2(f − A u), convolutions; GELU(u)."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv2d(1, 2, 1)
        self.A, self.S0, self.S1, self.S2 = (
            nn.Conv2d(2, 2, 3, padding=1, bias=False) for _ in range(4)
        )
        self.R = nn.Conv2d(2, 2, 3, stride=2, padding=1, bias=False)
        self.P = nn.ConvTranspose2d(2, 2, 2, stride=2, bias=False)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        f = self.lift(x.reshape(-1, 1, 4, 4))
        u = self.S0(f)
        r = self.R(f - self.A(u))
        u = u + self.P(self.S1(r))
        u = u + self.S2(f - self.A(u))
        return self.out(F.gelu(u).flatten(1))


class FNO(nn.Module):
    """86: GELU(irfft(R · rfft(v)[:5]) + W v), complex R."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(1, 3)
        self.R = nn.Parameter(torch.complex(torch.randn(5, 3, 3), torch.randn(5, 3, 3)) / 3)
        self.W = nn.Linear(3, 3)
        self.out = nn.Linear(48, 2)

    def forward(self, x):
        v = self.lift(tokens(x, 16))
        modes = torch.fft.rfft(v, dim=1)[:, :5]
        # `Module.float` and `Module.double` pass over complex parameters.
        modes = torch.einsum("nmi,mio->nmo", modes, self.R.to(modes.dtype))
        return self.out(F.gelu(torch.fft.irfft(modes, n=16, dim=1) + self.W(v)).flatten(1))


class LocalOperator(nn.Module):
    """87: GELU(conv with (k − mean k)/h + conv with h Σ_l w_l hat_l), h = 1/16."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv1d(1, 2, 1)
        self.k = nn.Parameter(torch.randn(2, 2, 3) / 16)
        self.w = nn.Parameter(torch.randn(2, 2, 3))
        self.out = nn.Linear(32, 2)
        taps, centres = torch.arange(-3.0, 4.0), torch.tensor([[-2.0], [0.0], [2.0]])
        self.register_buffer("hats", torch.relu(1 - (taps - centres).abs() / 2))

    def forward(self, x):
        v = self.lift(x.unsqueeze(1))
        slope = F.conv1d(v, (self.k - self.k.mean(-1, keepdim=True)) * 16, padding=1)
        integral = F.conv1d(v, self.w @ self.hats / 16, padding=3)
        return self.out(F.gelu(slope + integral).flatten(1))


class _SAU(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.25))
        self.beta = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        alpha, z = self.alpha, self.beta * x
        bump = (1 - alpha) / (self.beta * math.sqrt(2 * math.pi)) * torch.exp(-(z**2) / 2)
        return bump + x / 2 * (1 + alpha + (1 - alpha) * torch.erf(z / math.sqrt(2)))


class SAU(nn.Module):
    """94: (1−α)/(β√(2π)) e^{−β²x²/2} + x/2 (1 + α + (1−α) erf(βx/√2)), scalar α and β."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 8), _SAU(), nn.Linear(8, 8), _SAU(), nn.Linear(8, 2)
        )

    def forward(self, x):
        return self.layers(x)


class InceptionNeXt(nn.Module):
    """99: channels split to identity, DW3×3, DW1×5, DW5×1; then 1×1, GELU, 1×1, residual."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv2d(1, 4, 1)
        self.square = nn.Conv2d(1, 1, 3, padding=1)
        self.row = nn.Conv2d(1, 1, (1, 5), padding=(0, 2))
        self.column = nn.Conv2d(1, 1, (5, 1), padding=(2, 0))
        self.mlp = nn.Sequential(nn.Conv2d(4, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 1))
        self.out = nn.Linear(64, 2)

    def forward(self, x):
        z = self.lift(x.reshape(-1, 1, 4, 4))
        same, square, row, column = z.split(1, 1)
        mixed = torch.cat([same, self.square(square), self.row(row), self.column(column)], 1)
        return self.out((z + self.mlp(mixed)).flatten(1))


class Autoencoder(nn.Module):
    """100: Linear 16→3, tanh, Linear 3→16."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(16, 3)
        self.decode = nn.Linear(3, 16)

    def forward(self, x):
        return self.decode(torch.tanh(self.encode(x)))


class SMPConv(nn.Module):
    """103: conv with the kernel Σ_i relu(1 − |t − p_i|/r_i) w_i, points p_i learned."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv1d(1, 2, 1)
        self.p = nn.Parameter(2 * torch.rand(4) - 1)
        self.r = nn.Parameter(0.5 + torch.rand(4) / 2)
        self.w = nn.Parameter(torch.randn(2, 2, 4))
        self.out = nn.Linear(32, 2)
        self.register_buffer("taps", torch.arange(-4, 5) / 4)

    def forward(self, x):
        distance = (self.taps - self.p[:, None]).abs()
        kernel = self.w @ torch.relu(1 - distance / self.r[:, None])
        return self.out(F.gelu(F.conv1d(self.lift(x.unsqueeze(1)), kernel, padding=4)).flatten(1))


class NNToNO(nn.Module):
    """108: GELU(conv with the kernel's 5 values, interpolated to the grid, times dx = 1/16)."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv1d(1, 2, 1)
        self.k = nn.Parameter(4 * torch.randn(2, 2, 5))
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        kernel = F.interpolate(self.k, size=9, mode="linear", align_corners=True) / 16
        return self.out(F.gelu(F.conv1d(self.lift(x.unsqueeze(1)), kernel, padding=4)).flatten(1))


class SPDER(nn.Module):
    """115: layers sin(z) √|z|, z = W x + b; 1e-12 under the root keeps its gradient finite."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        for layer in (self.first, self.second):
            z = layer(x)
            x = torch.sin(z) * torch.sqrt(z.abs() + 1e-12)
        return self.out(x)


class PiNet(nn.Module):
    """19: z_1 = A_1 x, z_k = (A_k x)∘z_{k−1} + z_{k−1}, linear read-out."""

    def __init__(self):
        super().__init__()
        self.A = nn.ModuleList(nn.Linear(16, 6, bias=False) for _ in range(3))
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        first, *rest = self.A
        z = first(x)
        for layer in rest:
            z = layer(x) * z + z
        return self.out(z)


class SIREN(nn.Module):
    """21: layers sin(30 (W x + b)), linear read-out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            _Sine(16, 8, 1 / 16), _Sine(8, 8, math.sqrt(6 / 8) / 30), nn.Linear(8, 2)
        )

    def forward(self, x):
        return self.layers(x)


ZOO = {
    "ntk_attention": NTKAttention,
    "ckconv": CKConv,
    "delta_rule": DeltaRule,
    "tcsr": TCSR,
    "neighborhood_attention": NeighborhoodAttention,
    "kerple": KERPLE,
    "learned_kernel_attention": LearnedKernelAttention,
    "replknet": RepLKNet,
    "gaussian_attention": GaussianAttention,
    "soft": SOFT,
    "gdn": GDN,
    "adalin": AdaLIN,
    "integral_operator": IntegralOperator,
    "mgno": MgNO,
    "fno": FNO,
    "local_operator": LocalOperator,
    "one_layer_attention": OneLayerAttention,
    "sau": SAU,
    "inception_next": InceptionNeXt,
    "autoencoder": Autoencoder,
    "idw_attention": IDWAttention,
    "smpconv": SMPConv,
    "polar": Polar,
    "nn_to_no": NNToNO,
    "spder": SPDER,
    "hybrid_eviction": HybridEviction,
    "pi_net": PiNet,
    "siren": SIREN,
}


def make(name, seed=0):
    """One module of the zoo with reproducible weights in float64."""
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone, where modules are built
        torch.set_default_dtype(torch.float64)
        try:
            return ZOO[name]()
        finally:
            torch.set_default_dtype(dtype)
