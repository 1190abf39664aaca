"""Muon: the momentum of each kernel, made about orthogonal. Keller Jordan 2024, kellerjordan.github.io/posts/muon.

Norms, biases, depthwise kernels and the classifier are stepped by AdamW or SGD inside the same object.
"""

from typing import Any

import torch
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from foveate.train.optimizers.slots import Grouped, Groups, Tensors, gradients, refuse, slots
from foveate.train.recipe import Optim

QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0: five steps bring singular values from 0.002 on to about [0.7, 1.2]
EPS = 1e-7  # least Frobenius norm that is divided by
SCALES = ("original", "match_rms", "none")
PRODUCTS = ("bf16", "float32")
RESTS = ("adamw", "sgd")


class Muon(Grouped):
    """b <- m b + (1 - m) g, u = (1 - m) g + m b (nesterov; else b), w <- (1 - lr * decay) w - lr * scale * O(u).

    u is a matrix (c_out, the rest); O(u) about U V^T of its singular value decomposition, see orthogonalise. scale,
    "original": sqrt(max(1, rows / columns)); "match_rms": 0.2 sqrt(max(rows, columns)), whose moves are as large as
    AdamW's (arXiv:2502.16982); "none". Momentum written m b + g gives the same O(u), for O ignores factors.
    filter_norm: each w is scaled to the Frobenius norm sqrt(c_out) before it moves, and decay, which that would undo,
    is left out (the CIFAR-10 speed run, KellerJordan/cifar10-airbench).
    Groups carry their rule: "muon", "adamw" or "sgd", the last two with PyTorch's arithmetic; "split", that of a group
    which says nothing: Muon for matrices and `rest` for the others, its rate and decay as make_muon says.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        steps: int,
        scale: str,
        filter_norm: bool,
        products: str,
        rest: dict[str, Any],
    ):
        options = {"steps": steps, "scale": scale, "filter_norm": filter_norm, "products": products}
        defaults = {"rule": "split", "rest": rest, "lr": lr, "momentum": momentum, "nesterov": nesterov, **options}
        super().__init__(groups, defaults)

    def _move(self, group: dict[str, Any], params: Tensors) -> None:
        rules = {"muon": self._muon, "adamw": self._adamw, "sgd": self._sgd}
        if group["rule"] in rules:
            rules[group["rule"]](group, params)
            return
        others = rest_of(group)
        if matrices := [p for p in params if is_matrix(p) and not group["head"]]:
            self._muon(group, matrices)
        if left := [p for p in params if group["head"] or not is_matrix(p)]:
            rules[others["rule"]](others, left)

    def _muon(self, group: dict[str, Any], params: Tensors) -> None:
        lr, momentum, grads = group["lr"], group["momentum"], gradients(params)
        buffers = slots(self, params, "momentum_buffer")
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        moves = torch._foreach_lerp(grads, buffers, momentum) if group["nesterov"] else buffers
        if group["filter_norm"]:
            normalise_filters(params)
        elif group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        for chosen in [[i] for i in range(len(params))] if params[0].is_cpu else alike(params):
            rows, columns = matrix_shape(params[chosen[0]])
            matrices = [moves[i].reshape(rows, columns) for i in chosen]
            batch = matrices[0] if len(matrices) == 1 else torch.stack(matrices)
            batch = orthogonalise(batch, group["steps"], group["products"])
            found = [batch] if len(matrices) == 1 else batch.unbind()
            for i, move in zip(chosen, found, strict=True):
                params[i].add_(move.reshape(params[i].shape), alpha=-lr * shape_scale(rows, columns, group["scale"]))

    def _adamw(self, group: dict[str, Any], params: Tensors) -> None:
        (b1, b2), counts = group["betas"], []
        for p in params:
            counts.append(self.state[p].setdefault("step", torch.zeros((), dtype=torch.float32)))
        first, second = slots(self, params, "exp_avg"), slots(self, params, "exp_avg_sq")
        options = {"lr": group["lr"], "weight_decay": group["weight_decay"], "eps": group["eps"]}
        adamw(
            params,
            gradients(params),
            first,
            second,
            [],
            counts,
            foreach=True,
            amsgrad=False,
            beta1=b1,
            beta2=b2,
            maximize=False,
            **options,
        )

    def _sgd(self, group: dict[str, Any], params: Tensors) -> None:
        buffers: list[torch.Tensor | None] = [*slots(self, params, "momentum_buffer")] if group["momentum"] else []
        sgd(
            params,
            gradients(params),
            buffers or [None] * len(params),
            foreach=True,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"] and group["momentum"] > 0,
            maximize=False,
        )


def orthogonalise(x: torch.Tensor, steps: int = 5, products: str = "bf16") -> torch.Tensor:
    """About U V^T of the matrix U S V^T; (rows, columns) -> same, or a batch of them, in the products' precision.

    X / ||X||_F, then `steps` times X <- a X + (b A + c A^2) X, A = X X^T, (a, b, c) = QUINTIC: every singular value s
    becomes a s + b s^3 + c s^5. bf16: as published. float32 (float64 of float64): closer, and for matrices twice as
    wide as high (most kernels) the factors are multiplied among themselves first, of side `rows`: of five steps' ten
    products with the whole matrix two are left.
    """
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x.bfloat16() if products == "bf16" else x.to(torch.promote_types(x.dtype, torch.float32))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPS)
    narrow = products == "float32" and x.shape[-1] >= 2 * x.shape[-2]
    x = _by_factors(x, steps) if narrow else _directly(x, steps)
    return x.mT if tall else x


def _directly(x: torch.Tensor, steps: int) -> torch.Tensor:
    a, b, c = QUINTIC
    x = x.contiguous()
    square = x.new_empty(*x.shape[:-1], x.shape[-2])
    factor, spare = torch.empty_like(square), torch.empty_like(x)
    plus_product, multiply = (torch.addmm, torch.mm) if x.ndim == 2 else (torch.baddbmm, torch.bmm)
    for _ in range(steps):
        multiply(x, x.mT, out=square)
        plus_product(square, square, square, beta=b, alpha=c, out=factor)
        plus_product(x, factor, x, beta=a, out=spare)
        x, spare = spare, x
    return x


def _by_factors(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The same product Q_T ... Q_1 X with Q = a I + b A + c A^2 and the next A = Q A Q: A is all that Q asks for."""
    a, b, c = QUINTIC
    plus_product = torch.addmm if x.ndim == 2 else torch.baddbmm
    square, product = x @ x.mT, None
    for i in range(steps):
        factor = plus_product(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if i + 1 < steps:
            square = factor @ square @ factor
    return x if product is None else product @ x


def shape_scale(rows: int, columns: int, scale: str) -> float:
    """What the rate of a matrix is multiplied by."""
    named = {"original": max(1.0, rows / columns) ** 0.5, "match_rms": 0.2 * max(rows, columns) ** 0.5, "none": 1.0}
    return named[scale]


def normalise_filters(params: Tensors) -> None:
    """Scale each tensor to the Frobenius norm sqrt(its first side); one of zeros stays."""
    norms = torch.stack(torch._foreach_div(torch._foreach_norm(params), [len(p) ** 0.5 for p in params]))
    torch._foreach_mul_(params, list(torch.where(norms > 0, 1 / norms, 1.0).unbind()))


def matrix_shape(p: torch.Tensor) -> tuple[int, int]:
    """(c_out, everything else)."""
    return len(p), p.numel() // len(p)


def alike(params: Tensors) -> list[list[int]]:
    """Indices of matrices of one shape, together: a batch of products keeps an accelerator busier than many single ones
    (on a CPU it is slower)."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for i, p in enumerate(params):
        shapes.setdefault(matrix_shape(p), []).append(i)
    return list(shapes.values())


def is_matrix(p: torch.Tensor) -> bool:
    """Whether Muon may step it: linear weights and kernels over more than one channel."""
    return p.ndim > 1 and p.shape[1] > 1


def make_muon(
    groups: Groups,
    optim: Optim,
    *,
    momentum: float = 0.95,
    steps: int = 5,
    scale: str = "original",
    filter_norm: bool = False,
    products: str = "bf16",
    rest: str = "adamw",
    rest_rate: float = 0.015,
    head_rate: float = 0.015,
    even_decay: bool = False,
) -> torch.optim.Optimizer:
    """Muon for the kernels with rate optim.lr (published: 0.02) and this momentum; optim.nesterov for all.

    rest: the rule of everything else, with optim.momentum (and optim.beta2): its rate is optim.lr times rest_rate for
    norms, biases and depthwise kernels, times head_rate for the classifier (groups whose "head" is true).
    even_decay: the decay of those groups is divided by that factor, so that lr * decay is the same for all (the speed
    run's decoupled form). The speed run: lr 0.24, momentum=0.6, steps=3, scale="none", filter_norm=True, rest="sgd",
    rest_rate=0.2208, head_rate=2.79, even_decay=True, with optim.momentum 0.85 and decay_all.
    Raises ConfigError for options out of range.
    """
    what = f'muon(momentum={momentum}, steps={steps}, scale="{scale}", products="{products}", rest="{rest}")'
    refuse(what, "momentum from 0 to below 1, steps 1 to 20", 0 <= momentum < 1 and 1 <= steps <= 20)
    refuse(what, f"scale is one of {', '.join(SCALES)}", scale in SCALES)
    refuse(what, f"products is one of {', '.join(PRODUCTS)}", products in PRODUCTS)
    refuse(what, f"rest is one of {', '.join(RESTS)}", rest in RESTS)
    refuse(f"muon(rest_rate={rest_rate}, head_rate={head_rate})", "above 0", rest_rate > 0 and head_rate > 0)
    plain = {"rule": rest, "momentum": optim.momentum, "betas": (optim.momentum, optim.beta2), "eps": 1e-8}
    given = {**plain, "rest_rate": rest_rate, "head_rate": head_rate, "even_decay": even_decay}
    made: Groups = []
    for group in ({"head": False, "factor": 1.0, "weight_decay": 0.0, **g, "params": [*g["params"]]} for g in groups):
        matrices = [] if group["head"] else [p for p in group["params"] if is_matrix(p)]
        others = group["params"] if group["head"] else [p for p in group["params"] if not is_matrix(p)]
        if matrices:
            made.append({**group, "params": matrices, "rule": "muon"})
        if others:
            made.append(rest_of({**group, "params": others, "rest": given}))
    for group in made:
        group["lr"] = optim.lr * group["factor"]
    options: dict[str, Any] = {"steps": steps, "scale": scale, "filter_norm": filter_norm, "products": products}
    return Muon(made, lr=optim.lr, momentum=momentum, nesterov=optim.nesterov, rest=given, **options)


def rest_of(group: dict[str, Any]) -> dict[str, Any]:
    """The group as AdamW or SGD step it: rate, factor and decay by group["rest"], what make_muon was given."""
    rest = group["rest"]
    rate = rest["head_rate" if group["head"] else "rest_rate"]
    made = {**group, **{key: rest[key] for key in ("rule", "momentum", "betas", "eps")}}
    made |= {key: group[key] * rate for key in ("lr", "factor") if key in group}
    return {**made, "weight_decay": group["weight_decay"] / (rate if rest["even_decay"] else 1.0)}
