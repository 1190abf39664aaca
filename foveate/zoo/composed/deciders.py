"""Classifiers of vectors (N, D) that are arrays: linear, support vectors, trees. Learnt by foveate.classic."""

import torch
from torch import nn

VOTE = 1 / 3  # of how much sums of decisions may count beside votes


class SupportVectors(nn.Module):
    """A machine a pair of classes with the kernel exp(-gamma |x - s|^2); scores (N, K) are votes and, among equals, the
    sums of decisions, as scikit-learn's "ovr" form. Their largest is the answer.
    """

    vectors: torch.Tensor
    gamma: torch.Tensor
    dual: torch.Tensor
    bias: torch.Tensor
    side: torch.Tensor

    def __init__(self, width: int, classes: int, vectors: int):
        super().__init__()
        pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
        self.register_buffer("vectors", torch.zeros(vectors, width))
        self.register_buffer("gamma", torch.ones(1))
        self.register_buffer("dual", torch.zeros(len(pairs), vectors))
        self.register_buffer("bias", torch.zeros(len(pairs)))
        side = torch.zeros(len(pairs), classes)
        for place, (i, j) in enumerate(pairs):
            side[place, i], side[place, j] = 1, -1
        self.register_buffer("side", side, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squares = x.square().sum(1, keepdim=True) + self.vectors.square().sum(1) - 2 * (x @ self.vectors.T)
        decisions = (
            -self.gamma * squares.clamp(min=0)
        ).exp() @ self.dual.T + self.bias  # (N, pairs), positive: the first
        won = torch.where(decisions > 0, 1.0, -1.0).to(x.dtype)
        votes = (won @ self.side + self.side.abs().sum(0)) / 2
        sums = decisions @ self.side
        return votes + VOTE * sums / (sums.abs() + 1)


class Trees(nn.Module):
    """Binary trees that add up: x[feature] <= threshold goes left. (N, D) -> (N, K).

    A leaf is its own child, and `depth` steps are taken whatever the arrays say, so that none can loop. index: the
    first node of each tree.
    """

    feature: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    threshold: torch.Tensor
    value: torch.Tensor
    index: torch.Tensor
    base: torch.Tensor

    def __init__(self, classes: int, nodes: int, trees: int, depth: int):
        super().__init__()
        self.depth = depth
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("value", torch.zeros(nodes, classes))
        self.register_buffer("index", torch.zeros(trees, dtype=torch.int64))
        self.register_buffer("base", torch.zeros(classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = self.index + (x[:, :1] * 0).long()  # any number of pictures
        for _ in range(self.depth):
            low = x.gather(1, self.feature[at]) <= self.threshold[at]
            at = torch.where(low, self.left[at], self.right[at])
        return self.value[at].sum(1) + self.base
