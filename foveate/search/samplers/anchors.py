"""The controller's policy of Neural Architecture Search for nets with skips, arXiv:1611.01578 sections 3.2 and 3.3.

Layer after layer it decides kernel, stride and filters by a softmax each; then comes an anchor point, whose hidden
state h_i says which earlier layers layer i reads, each an independent draw:

    P(layer j is an input of layer i) = sigmoid(v^T tanh(W_prev h_j + W_curr h_i))

Heads and embeddings are the same for every layer, so that nets may grow while it learns. Two LSTM layers of 35, weights
U(-0.08, 0.08).

The paper does not say what is read after an anchor point: here it is a learned vector; and the first step reads zeros.
"""

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.errors import ConfigError
from foveate.search.space import UNUSED, Space, Tokens

BOUND = 0.08
DEPTH = "depth"  # the choice of how many layers there are, where a space has it: given, not learned
Choose = Callable[[int, Tensor], Tensor]  # (position of a choice, (n, values) log-probabilities) -> (n,) tokens


class Layout:
    """Where the choices of each layer stand in a space that has "0.height", ..., "1.from0" as the space nas."""

    def __init__(self, space: Space) -> None:
        places: dict[int, dict[str, int]] = {}
        for position, choice in enumerate(space.choices):
            if choice.name == DEPTH:
                continue
            found = re.fullmatch(r"(\d+)\.(\w+)", choice.name)
            if not found:
                raise ConfigError(
                    f"anchors: the space {space.name} has no layers with skips; take nas, or anchors=False"
                )
            places.setdefault(int(found[1]), {})[found[2]] = position
        self.layers = [places[i] for i in sorted(places)]
        self.own = [name for name in self.layers[0] if not name.startswith("from")]
        self.widths = {name: len(space.choices[self.layers[0][name]].values) for name in self.own}
        if any(set(at) != {*self.own, *(f"from{j}" for j in range(i))} for i, at in enumerate(self.layers)):
            raise ConfigError(f"anchors: the layers of the space {space.name} differ; take nas")
        first = space.choices[0]
        self.depths = tuple(int(str(v)) for v in first.values) if first.name == DEPTH else ()


class AnchorPolicy(nn.Module):
    """hidden: width of both LSTM layers, the embeddings and the attention."""

    def __init__(self, space: Space, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.space, self.hidden, self.layout = space, hidden, Layout(space)
        widths = self.layout.widths
        self.embeddings = nn.ModuleDict({name: nn.Embedding(width, hidden) for name, width in widths.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, width) for name, width in widths.items()})
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(2))
        self.behind_anchor = nn.Parameter(torch.empty(hidden))
        self.previous, self.current = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.score = nn.Linear(hidden, 1, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-BOUND, BOUND, generator=generator)

    def forward(self, nets: Sequence[Tokens] | Tensor) -> tuple[Tensor, Tensor]:
        """(n, choices) tokens -> log-probability (n,) of each net of its depth, and the entropy (n,) summed over its
        decisions, in nats.
        """
        rows = torch.as_tensor(nets, dtype=torch.long).reshape(-1, len(self.space.choices))
        return self._walk(len(rows), lambda position, _: rows[:, position])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, depth: int | None = None) -> tuple[list[Tokens], Tensor]:
        """count nets and their log-probabilities (count,). depth: their layers, where the space has several depths;
        None: the most.
        """
        depths, every = self.layout.depths, len(self.layout.layers)
        layers = every if depth is None else depth
        if layers not in (depths or (every,)):
            raise ConfigError(f"anchors: {layers} layers; the space has {', '.join(map(str, depths or (every,)))}")
        table = torch.full((count, len(self.space.choices)), UNUSED)
        if depths:
            table[:, 0] = depths.index(layers)
        asked = {position for at in self.layout.layers[:layers] for position in at.values()}

        def draw(position: int, log_softmax: Tensor) -> Tensor:
            if position in asked:
                table[:, position] = torch.multinomial(log_softmax.exp(), 1, generator=generator)[:, 0]
            return table[:, position]

        logp, _ = self._walk(count, draw)
        return [tuple(row) for row in table.tolist()], logp

    def _walk(self, count: int, choose: Choose) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of what `choose` decides, choice after choice."""
        zeros = self.behind_anchor.new_zeros(count, self.hidden)
        states = [(zeros, zeros) for _ in self.cells]
        logp = entropy = zeros[:, 0]
        read = zeros
        anchors: list[Tensor] = []

        def decide(position: int, log_softmax: Tensor) -> Tensor:
            nonlocal logp, entropy
            token = choose(position, log_softmax)
            used, safe = token != UNUSED, token.clamp(min=0)
            logp = logp + used * log_softmax.gather(1, safe[:, None])[:, 0]
            entropy = entropy - used * (log_softmax.exp() * log_softmax).sum(1)
            return safe

        for at in self.layout.layers:
            for name in self.layout.own:
                states = self._step(read, states)
                token = decide(at[name], F.log_softmax(self.heads[name](states[-1][0]), dim=1))
                read = self.embeddings[name](token)
            states = self._step(read, states)
            now = self.current(states[-1][0])
            for j, anchor in enumerate(anchors):
                logit = self.score(torch.tanh(self.previous(anchor) + now))  # (n, 1)
                decide(at[f"from{j}"], torch.cat([F.logsigmoid(-logit), F.logsigmoid(logit)], 1))
            anchors.append(states[-1][0])
            read = self.behind_anchor.expand(count, -1)
        return logp, entropy

    def _step(self, read: Tensor, states: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """All LSTM layers once: each reads the hidden state of the one below."""
        made = []
        for cell, state in zip(self.cells, states, strict=True):
            made.append(cell(read, state))
            read = made[-1][0]
        return made
