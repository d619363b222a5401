"""The zoo's modules with attention, and what they share; `tests.zoo` describes them."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def tokens(x, length):
    return x.reshape(x.shape[0], length, 16 // length)


def squared_distances(x, y):
    return ((x.unsqueeze(-2) - y.unsqueeze(-3)) ** 2).sum(-1)


def elu_plus_one(x):
    return F.elu(x) + 1


class QKV(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d_in, d_out, bias=False) for _ in range(3))

    def forward(self, x):
        return self.q(x), self.k(x), self.v(x)


class NTKAttention(nn.Module):
    """29: (e^{QKᵀ/√d} V + φ(Q) Z) / (e^{QKᵀ/√d} 1 + φ(Q) |k|), φ = ELU(x/d^¼) + 1."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(4, 4)
        self.Z = nn.Parameter(torch.randn(4, 4))
        self.k = nn.Parameter(torch.randn(4))
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        q, k, v = self.qkv(tokens(x, 4))
        weights = torch.exp(q @ k.mT / 2)
        phi = elu_plus_one(q / 4**0.25)
        total = weights.sum(-1, keepdim=True) + (phi @ self.k.abs()).unsqueeze(-1)
        return self.out(((weights @ v + phi @ self.Z) / total).flatten(1))


class DeltaRule(nn.Module):
    """60: W_t = W_{t−1} + β_t (v_t − W_{t−1} φ(k_t)) φ(k_t)ᵀ, y_t = W_t φ(q_t), DPFP φ."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(4, 4)
        self.beta = nn.Linear(4, 1)
        self.out = nn.Linear(16, 2)

    @staticmethod
    def phi(x):
        r = torch.relu(torch.cat([x, -x], -1))
        phi = torch.cat([r * r.roll(i, -1) for i in (1, 2)], -1)
        return phi / (phi.sum(-1, keepdim=True) + 1e-6)

    def forward(self, x):
        x = tokens(x, 4)
        q, k, v = self.qkv(x)
        q, k, beta = self.phi(q), self.phi(k), torch.sigmoid(self.beta(x))
        w, y = x.new_zeros(x.shape[0], 4, 16), []
        for t in range(4):
            error = v[:, t] - torch.einsum("nij,nj->ni", w, k[:, t])
            w = w + torch.einsum("ni,nj->nij", beta[:, t] * error, k[:, t])
            y.append(torch.einsum("nij,nj->ni", w, q[:, t]))
        return self.out(torch.cat(y, 1))


class _Neighborhood(nn.Module):
    """softmax_j(q_i·k_{ρ_j(i)} + b_{ρ_j(i)−i}) v_{ρ_j(i)}, ρ(i) clamped to the sequence."""

    def __init__(self, dim, length, window, dilation=1):
        super().__init__()
        self.qkv = QKV(dim, dim)
        self.bias = nn.Parameter(torch.randn(2 * window - 1))
        i = torch.arange(length)[:, None]
        # Neighbors of i share its remainder; at the ends the window stays whole and moves inside.
        remainder, place = i % dilation, i // dilation
        last = (length - 1 - remainder) // dilation + 1 - window
        start = torch.minimum((place - window // 2).clamp(min=0), last)
        neighbors = start + torch.arange(window)
        self.register_buffer("neighbors", neighbors * dilation + remainder)
        self.register_buffer("offsets", neighbors - place + window - 1)

    def forward(self, x):
        q, k, v = self.qkv(x)
        k, v = k[:, self.neighbors], v[:, self.neighbors]
        scores = (q.unsqueeze(2) * k).sum(-1) + self.bias[self.offsets]
        return (scores.softmax(-1).unsqueeze(-1) * v).sum(2)


class TCSR(nn.Module):
    """61: z + NA(z) with window 5, FC, half of the channels shifted by ±1 each, GELU, FC."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(2, 4)
        self.attention = _Neighborhood(4, 8, 5)
        self.expand = nn.Linear(4, 8)
        self.contract = nn.Linear(8, 4)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        z = self.lift(tokens(x, 8))
        ahead, back = self.expand(z + self.attention(z)).chunk(2, -1)
        ahead, back = F.pad(ahead, (0, 0, 1, 0))[:, :-1], F.pad(back, (0, 0, 0, 1))[:, 1:]
        return self.out(self.contract(F.gelu(torch.cat([ahead, back], -1))).flatten(1))


class NeighborhoodAttention(nn.Module):
    """63: softmax(q_i·k_{ρ_j(i)} + b_j) v, window 3, dilation 2, clamped."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(2, 4)
        self.attention = _Neighborhood(4, 8, 3, dilation=2)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        return self.out(self.attention(self.lift(tokens(x, 8))).flatten(1))


class KERPLE(nn.Module):
    """65: causal softmax(qk/√d − r1 log(1 + r2 |m−n|)) v in two heads, r = softplus(raw)."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(2, 4)
        self.raw1 = nn.Parameter(torch.randn(2, 1, 1))
        self.raw2 = nn.Parameter(torch.randn(2, 1, 1))
        self.out = nn.Linear(32, 2)
        lag = torch.arange(8.0)[:, None] - torch.arange(8.0)
        self.register_buffer("distance", lag.abs())
        self.register_buffer("future", lag < 0)

    def forward(self, x):
        q, k, v = (z.unflatten(-1, (2, 2)).transpose(1, 2) for z in self.qkv(tokens(x, 8)))
        r1, r2 = F.softplus(self.raw1), F.softplus(self.raw2)
        scores = q @ k.mT / math.sqrt(2) - r1 * torch.log1p(r2 * self.distance)
        y = scores.masked_fill(self.future, -math.inf).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(1))


class LearnedKernelAttention(nn.Module):
    """66: φ(Q)(φ(K)ᵀV) / φ(Q)φ(K)ᵀ1, φ(u) = exp(Wu − |u|²/2) with W learned."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(4, 4)
        self.W = nn.Linear(4, 6, bias=False)
        self.out = nn.Linear(16, 2)

    def phi(self, u):
        return torch.exp(self.W(u) - (u**2).sum(-1, keepdim=True) / 2)

    def forward(self, x):
        q, k, v = self.qkv(tokens(x, 4))
        q, k = self.phi(q), self.phi(k)
        y = q @ (k.mT @ v) / (q @ k.sum(1).unsqueeze(-1))
        return self.out(y.flatten(1))


class GaussianAttention(nn.Module):
    """73: exp(−|q−k|²/2) V, not normalised."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(4, 4)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        q, k, v = self.qkv(tokens(x, 4))
        return self.out((torch.exp(-squared_distances(q, k) / 2) @ v).flatten(1))


class SOFT(nn.Module):
    """76: A M⁺ Aᵀ V, A = exp(−|q−p|²/4), M = exp(−|p−p|²/4), M⁺ by 8 Newton steps."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(2, 4)
        self.v = nn.Linear(2, 4)
        self.pool = nn.Conv1d(4, 4, 2, stride=2)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        x = tokens(x, 8)
        q, v = self.q(x), self.v(x)
        p = self.pool(q.mT).mT
        a = torch.exp(-squared_distances(q, p) / 4)
        m = torch.exp(-squared_distances(p, p) / 4)
        # M is symmetric: over its squared 1-norm, no eigenvalue of M M⁺ starts above 1.
        inverse = m / m.sum(-1).amax(-1)[:, None, None] ** 2
        for _ in range(8):
            inverse = 2 * inverse - inverse @ m @ inverse
        return self.out((a @ (inverse @ (a.mT @ v))).flatten(1))


class OneLayerAttention(nn.Module):
    """93: vᵀ Xᵀ softmax(X W x_1), one v for each output."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(4, 6)
        self.W = nn.Linear(6, 6, bias=False)
        self.v = nn.Linear(6, 2, bias=False)

    def forward(self, x):
        X = self.lift(tokens(x, 4))
        weights = (X @ self.W(X[:, 0]).unsqueeze(-1)).softmax(1)
        return self.v((weights * X).sum(1))


class IDWAttention(nn.Module):
    """101: softmax(−log(|x−k|² + ε)) V, k and V learned."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(8, 16))
        self.V = nn.Parameter(torch.randn(8, 2))

    def forward(self, x):
        return (-torch.log(squared_distances(x, self.keys) + 1e-3)).softmax(-1) @ self.V


class Polar(nn.Module):
    """105: attention in 4 heads of which a router keeps the top 2 of each row."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.qkv = QKV(4, 8)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        logits = self.router(x)
        mask = (logits >= logits.topk(2).values[:, -1:]).to(x.dtype)
        q, k, v = (z.unflatten(-1, (4, 2)).transpose(1, 2) for z in self.qkv(tokens(x, 4)))
        heads = (q @ k.mT / math.sqrt(2)).softmax(-1) @ v
        return self.out((heads * mask[:, :, None, None]).transpose(1, 2).flatten(1))


class HybridEviction(nn.Module):
    """117: g · linear attention + (1−g) · softmax over window 2 ∪ top 4, causal, g a sigmoid."""

    def __init__(self):
        super().__init__()
        self.qkv = QKV(2, 4)
        self.score = nn.Linear(2, 1)
        self.gate = nn.Linear(2, 1)
        self.out = nn.Linear(32, 2)
        lag = torch.arange(8)[:, None] - torch.arange(8)
        self.register_buffer("past", lag >= 0)
        self.register_buffer("window", (lag >= 0) & (lag < 2))

    def forward(self, x):
        x = tokens(x, 8)
        q, k, v = self.qkv(x)
        score = torch.where(self.past, self.score(x).mT, -math.inf)
        kept = score >= score.topk(4).values[..., -1:]
        visible = self.window | (self.past & kept)
        near = (q @ k.mT / 2).masked_fill(~visible, -math.inf).softmax(-1) @ v
        weights = elu_plus_one(q) @ elu_plus_one(k).mT * self.past
        far = weights @ v / weights.sum(-1, keepdim=True)
        g = torch.sigmoid(self.gate(x))
        return self.out((g * far + (1 - g) * near).flatten(1))
