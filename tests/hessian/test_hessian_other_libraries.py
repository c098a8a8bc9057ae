"""The same products and spectra as two well-kept libraries give; skipped where they are not installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.hessian import HessianOperator
from whyadam.hessian.slq import Lanczos, draw_probes, one_by_one


@pytest.mark.parametrize("family", ["mlp", "resnet", "vgg"])
@pytest.mark.parametrize("restricted", [False, True])
def test_products_equal_those_of_curvlinops(case_named: Any, loss: Any, family: str, restricted: bool) -> None:
    """Forward over reverse by torch.func, batches of unequal size. Without layer normalisation, which it gets wrong."""
    curvlinops = pytest.importorskip("curvlinops")
    case = case_named(family)
    model = case.model.eval()
    names = [name for name, _ in model.named_parameters()]
    names = names[-2:] if restricted else names
    parameters = [model.get_parameter(name) for name in names]
    matrix = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, case.batches)
    operator = HessianOperator(model, loss, case.batches, names)
    vector = torch.randn(operator.size, dtype=torch.float64)
    torch.testing.assert_close(operator.matvec(vector), matrix @ vector, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", ["mlp", "resnet", "gpt2", "vit"])
def test_quadrature_equals_that_of_hessian_eigenthings(case_named: Any, loss: Any, family: str) -> None:
    """Double backward and its own reorthogonalised Lanczos, from the same probe."""
    eigenthings = pytest.importorskip("hessian_eigenthings")
    case = case_named(family)
    model, batches = case.model.eval(), case.batches[:1]

    def mean_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        total, count = loss(model, batch)
        return total / count

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs = eigenthings.HessianOperator(model, batches, mean_loss)
        ours = HessianOperator(model, loss, batches)
        probe = draw_probes(ours.size, 3, [0])
        torch.testing.assert_close(ours.matvec(probe[0]), theirs.matvec(probe[0]), rtol=0, atol=1e-9)
        run = eigenthings.lanczos_tridiagonal(theirs, probe[0].clone(), 10, reorthogonalize=True)
    tridiagonal = torch.diag(run.alphas) + torch.diag(run.betas[:9], 1) + torch.diag(run.betas[:9], -1)
    nodes, vectors = torch.linalg.eigh(tridiagonal)
    lanczos = Lanczos(one_by_one(ours.matvec), probe, 10)
    for _ in range(10):
        lanczos.step()
    found, weights = lanczos.quadrature()
    torch.testing.assert_close(found, nodes, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(weights[0], vectors[0] ** 2, rtol=1e-5, atol=1e-9)
