"""Lanczos and products against dense matrices, closed forms and SciPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.stats import wasserstein_distance
from torch import nn

from foveate.analysis.lanczos import Spectrum, lanczos, spectrum
from foveate.analysis.products import flat, gauss_newton, gradient, hessian, trained
from foveate.errors import ConfigError, FoveateError


@pytest.fixture(scope="module")
def net():
    """147 parameters in float64, pictures in two batches of different size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 0 + 1)).double()
    model = nn.Sequential(*list(model)[:-1], nn.Linear(6, 1, bias=False)).double()
    x = torch.randn(48, 8, dtype=torch.float64)
    y = torch.sin(x.sum(1, keepdim=True))
    return model, [(x[:32], y[:32]), (x[32:], y[32:])], F.mse_loss


def dense(model, batches, loss):
    """The Hessian, row by row, over all pictures at once."""
    params = trained(model)
    x, y = (torch.cat(t) for t in zip(*batches, strict=True))
    g = flat(torch.autograd.grad(loss(model(x), y), params, create_graph=True), params)
    rows = [flat(torch.autograd.grad(e, params, retain_graph=True), params) for e in g]
    return torch.stack(rows).numpy()


def test_the_product_is_that_of_the_dense_hessian(net):
    model, batches, loss = net
    matrix, product = dense(*net), hessian(*net)
    v = torch.randn(len(matrix), dtype=torch.float64)
    np.testing.assert_allclose(product(v).numpy(), matrix @ v.numpy(), atol=1e-12)
    x, y = (torch.cat(t) for t in zip(*batches, strict=True))
    whole = flat(torch.autograd.grad(loss(model(x), y), trained(model)), trained(model))
    np.testing.assert_allclose(gradient(*net).numpy(), whole.numpy(), atol=1e-14)


def test_extremes_against_the_dense_matrix_and_scipy(net):
    matrix, product = dense(*net), hessian(*net)
    exact = np.linalg.eigvalsh(matrix)
    like = torch.zeros(len(matrix), dtype=torch.float64)
    assert spectrum(product, like, steps=10, draws=3).top == pytest.approx(exact[-1], rel=1e-6)
    found = spectrum(product, like, steps=30, draws=3)
    assert found.bottom == pytest.approx(exact[0], rel=1e-3)
    shape = (len(matrix), len(matrix))
    operator = LinearOperator(shape, matvec=lambda v: product(torch.from_numpy(v.ravel())).numpy(), dtype=float)
    assert found.top == pytest.approx(float(eigsh(operator, k=1, which="LA")[0][0]), rel=1e-8)
    assert all((run.errors[-1] < 1e-6) and run.weights.sum() == pytest.approx(1) for run in found.runs)


def test_the_trace_is_within_its_own_interval(net):
    matrix = dense(*net)
    like = torch.zeros(len(matrix), dtype=torch.float64)
    hits = 0
    for seed in range(20):
        low, high = spectrum(hessian(*net), like, steps=5, draws=8, seed=seed).trace_interval
        hits += low <= np.trace(matrix) <= high
    assert hits >= 17  # 19 of 20 are expected
    assert spectrum(hessian(*net), like, steps=5, draws=1).trace_interval == (-np.inf, np.inf)


def test_the_density_of_a_known_spectrum():
    """A matrix with eigenvalues from a semicircle: nodes and weights are near it in Wasserstein distance."""
    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([2 * np.cos(np.pi * rng.beta(1.5, 1.5, 400)), [5.0, 6.0]]))
    q, _ = np.linalg.qr(rng.normal(size=(402, 402)))
    matrix = torch.from_numpy(q * values @ q.T)
    found = spectrum(lambda v: matrix @ v, torch.zeros(402, dtype=torch.float64), steps=40, draws=10)
    nodes, weights = (np.concatenate([getattr(r, k) for r in found.runs]) for k in ("nodes", "weights"))
    assert wasserstein_distance(values, nodes, None, weights) < 0.02 * (values[-1] - values[0])
    grid = np.linspace(-4, 8, 2000)
    density = found.density(grid)
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    assert abs(np.trapezoid(density * grid, grid) - values.mean()) < 0.1


def test_gauss_newton_is_what_its_name_says():
    """J^T H_out J of a network of three classes, written out; no negative eigenvalue."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    params = trained(model)
    z = model(x)
    jacobian = torch.stack([flat(torch.autograd.grad(e, params, retain_graph=True), params) for e in z.flatten()])
    p = z.detach().softmax(1)
    blocks = torch.block_diag(*[(torch.diag(row) - torch.outer(row, row)) / 7 for row in p])
    expected = jacobian.T @ blocks @ jacobian
    product = gauss_newton(model, [(x[:3], y[:3]), (x[3:], y[3:])], F.cross_entropy)
    made = torch.stack([product(e) for e in torch.eye(len(expected), dtype=torch.float64)])
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=1e-12)
    assert np.linalg.eigvalsh(made.numpy()).min() > -1e-12


def test_a_space_that_is_used_up_ends_early():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64))
    run = lanczos(lambda v: matrix @ v, torch.ones(3, dtype=torch.float64), 10)
    np.testing.assert_allclose(run.nodes, [1, 3], atol=1e-12)
    np.testing.assert_allclose(run.weights, [2 / 3, 1 / 3], atol=1e-12)


def test_what_can_not_be_done_is_one_line():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter is trained"):
        hessian(frozen, [], F.mse_loss)
    with pytest.raises(ConfigError, match=r"bfloat16.*float32"):
        hessian(nn.Linear(2, 2).bfloat16(), [], F.mse_loss)
    with pytest.raises(ConfigError, match="no batch"):
        hessian(nn.Linear(2, 2), [], F.mse_loss)
    with pytest.raises(FoveateError, match="not finite"):
        lanczos(lambda v: v * float("nan"), torch.ones(3), 2)
    with pytest.raises(ConfigError, match="at least 1"):
        lanczos(lambda v: v, torch.ones(3), 0)
    assert Spectrum(3, (lanczos(lambda v: 2 * v, torch.ones(3), 3),)).trace == pytest.approx(6)
