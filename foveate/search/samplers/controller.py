"""The controller: an LSTM policy that learns from rewards by REINFORCE or PPO.

    REINFORCE   loss = -mean_k (A_k log p(net_k)) - beta * entropy              (Williams 1992; arXiv 1611.01578)
    PPO         loss = -mean_k min(r_k A_k, clip(r_k, 1 - c, 1 + c) A_k) - beta * entropy, r_k = p(net_k) / p_old(net_k)
                (Schulman et al. 2017, arXiv 1707.06347; NASNet, arXiv 1707.07012)
    A_k         reward - baseline, in units of the rewards' deviation; the baseline is the moving average of earlier
                rewards (decay .95), unbiased by its total weight.
    replay      after each update, steps that raise the likelihood of the best nets so far: priority queue training
                (Abolafia et al. 2018, arXiv 1801.03526). elite = 0 leaves it out.

The papers' learning rate of 3.5e-4 is for 8,000 to 20,000 children; at a few hundred it is random search. Defaults are
for 200; Controller(lr=3.5e-4, batch=20, epochs=4, elite=0, entropy=1e-5, hidden=100) is NASNet's, and
Controller(anchors=True, hidden=35, reward="cubed", grow=1600, lr=6e-4, batch=8, elite=0, entropy=0.0) that of
arXiv:1611.01578 on nas(layers=14, least=6): skips by attention over earlier layers (anchors.py), six layers and two
more after every 1,600 nets, accuracy cubed. Its many workers are those of the study: each learns from all finished
trials.

Deliberate differences: unless reward="cubed", rewards are normal scores of their ranks, so that no scale has to be
chosen; and no net is asked for twice: a net that was measured before is drawn again.
"""

import base64
import json
from typing import Any

import numpy as np
import torch

from foveate.errors import ConfigError
from foveate.search.samplers.anchors import AnchorPolicy
from foveate.search.samplers.gaussian import normal_scores
from foveate.search.samplers.policy import Policy
from foveate.search.samplers.searcher import History, first_new
from foveate.search.space import Space, Tokens

REWARDS = ("ranks", "cubed")
DECAY = 0.95  # of the baseline
DRAWN = 32  # nets drawn at once, of which the first new one is taken


class Controller:
    """hidden: LSTM width; lr: Adam's; batch: trials per update; epochs: PPO steps per update (1: REINFORCE);
    clip: PPO's; entropy: weight of the bonus; elite: how many best nets are replayed; replays: steps on them after
    each update; anchors: skips of a space of layers by attention; reward: "ranks" or "cubed", the third power of an
    accuracy from 0 to 1; grow: trials after which nets get the next depth of the space, 0: the greatest at once.
    """

    single = True

    def __init__(
        self,
        space: Space,
        *,
        seed: int = 0,
        hidden: int = 64,
        lr: float = 0.003,
        batch: int = 10,
        epochs: int = 1,
        clip: float = 0.2,
        entropy: float = 0.05,
        elite: int = 10,
        replays: int = 5,
        anchors: bool = False,
        reward: str = "ranks",
        grow: int = 0,
    ) -> None:
        if min(hidden, batch, epochs) < 1 or lr <= 0 or not 0 < clip < 1 or min(entropy, elite, replays) < 0:
            raise ConfigError(
                "controller: hidden, batch, epochs, lr must be positive, 0 < clip < 1, the rest not negative"
            )
        if reward not in REWARDS or grow < 0 or (grow and not anchors):
            raise ConfigError(
                f"controller: reward is one of {', '.join(REWARDS)}; grow is 0 or more, and needs anchors"
            )
        self.reward, self.grow = reward, grow
        self.space, self.batch, self.epochs, self.clip = space, batch, epochs, clip
        self.entropy, self.elite, self.replays = entropy, elite, replays
        policy = AnchorPolicy if anchors else Policy
        self.policy = policy(space, hidden, torch.Generator().manual_seed(seed))
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=lr, eps=1e-5)
        self.learned = 0  # trials in the policy
        self.baseline, self.weight = 0.0, 0.0

    def propose(self, history: History, rng: np.random.Generator) -> Tokens:
        """Learn from every full batch that is new, then draw until a net is new."""
        self._restore(history)
        behind = self.learned
        while len(history.nets) - self.learned >= self.batch:
            self._learn(history)
        if self.learned > behind:
            history.save(self.state())
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        drawn = (net for _ in range(100) for net in self._draw(generator, len(history.nets)))
        return first_new(history, drawn, rng)

    def _draw(self, generator: torch.Generator, trials: int) -> list[Tokens]:
        """Nets of the depth that it is time for."""
        if isinstance(self.policy, Policy):
            return self.policy.sample(DRAWN, generator)[0]
        return self.policy.sample(DRAWN, generator, self.depth(trials))[0]

    def depth(self, trials: int) -> int | None:
        """Layers of the nets drawn after so many trials; None: the most."""
        depths = self.policy.layout.depths if isinstance(self.policy, AnchorPolicy) else ()
        return depths[min(trials // self.grow, len(depths) - 1)] if self.grow and depths else None

    def _learn(self, history: History) -> None:
        """One update from the next batch of trials, then the replays."""
        stop = self.learned + self.batch
        nets, values = history.nets[:stop], history.values[:stop]
        good = [i for i in range(stop) if values[i] is not None]
        rewards = dict(zip(good, self._rewards([v[0] for v in values if v is not None]), strict=True))
        fresh = [i for i in good if i >= self.learned]
        self.learned = stop
        if not fresh:
            return
        advantage = torch.tensor([rewards[i] - self._expected() for i in fresh], dtype=torch.float32)
        self.update([nets[i] for i in fresh], advantage)
        for i in fresh:
            self.baseline = DECAY * self.baseline + (1 - DECAY) * rewards[i]
            self.weight = DECAY * self.weight + (1 - DECAY)
        best = sorted(good, key=lambda i: -rewards[i])[: self.elite]
        for _ in range(self.replays if best else 0):
            self._step(-self.policy([nets[i] for i in best])[0].mean(), [nets[i] for i in best])

    def _rewards(self, values: list[float]) -> np.ndarray:
        """What each measured value is worth."""
        if self.reward == "ranks":
            return normal_scores(np.array(values), -1.0)
        if values and not 0 <= min(values) <= max(values) <= 1:
            raise ConfigError(f"controller: reward cubed of {min(values):g} to {max(values):g}; expected 0 to 1")
        return np.array(values) ** 3

    def _expected(self) -> float:
        return self.baseline / self.weight if self.weight else 0.0

    def update(self, nets: list[Tokens], advantage: torch.Tensor) -> list[torch.Tensor]:
        """One REINFORCE step, or `epochs` PPO steps; returns the probability ratios that each step began with."""
        old = self.policy(nets)[0].detach()
        ratios = []
        for _ in range(self.epochs):
            logp, _ = self.policy(nets)
            ratio = (logp - old).exp()
            ratios.append(ratio.detach())
            if self.epochs == 1:
                gain = advantage * logp
            else:
                gain = torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
            self._step(-gain.mean(), nets)
        return ratios

    def _step(self, loss: torch.Tensor, nets: list[Tokens]) -> None:
        total = loss - self.entropy * self.policy(nets)[1].mean()
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()

    def state(self) -> str:
        """Everything that was learned, as text: weights, Adam's moments, baseline."""
        kept: list[torch.Tensor] = list(self.policy.state_dict().values())
        moments = self.optimizer.state_dict()["state"]
        for i, p in enumerate(self.policy.parameters() if moments else ()):
            # the embedding of the last choice is never read, so Adam knows nothing of it
            none = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            kept += [moments.get(i, none)[key].detach() for key in ("step", "exp_avg", "exp_avg_sq")]
        flat = torch.cat([t.reshape(-1) for t in kept]).numpy().astype("<f4")
        numbers = {"learned": self.learned, "baseline": self.baseline, "weight": self.weight}
        return json.dumps(numbers | {"tensors": base64.b64encode(flat.tobytes()).decode()})

    def load(self, text: str) -> None:
        """The inverse of state. ConfigError where it is another controller's."""
        data: dict[str, Any] = json.loads(text)
        flat = torch.from_numpy(np.frombuffer(base64.b64decode(data["tensors"]), "<f4").copy())
        weights = self.policy.state_dict()
        parameters = list(self.policy.parameters())
        sizes = [t.numel() for t in weights.values()]
        for p in parameters if len(flat) > sum(sizes) else ():
            sizes += [1, p.numel(), p.numel()]
        if sum(sizes) != len(flat):
            raise ConfigError("controller: the study's state is of another space or width; take another study name")
        parts = list(flat.split(sizes))
        self.policy.load_state_dict({k: parts[i].view_as(w) for i, (k, w) in enumerate(weights.items())})
        kept = self.optimizer.state_dict()
        rest = parts[len(weights) :]
        kept["state"] = {
            i: {
                "step": rest[3 * i].reshape(()),
                "exp_avg": rest[3 * i + 1].view_as(p),
                "exp_avg_sq": rest[3 * i + 2].view_as(p),
            }
            for i, p in enumerate(parameters[: len(rest) // 3])
        }
        self.optimizer.load_state_dict(kept)
        self.learned, self.baseline, self.weight = data["learned"], data["baseline"], data["weight"]

    def _restore(self, history: History) -> None:
        """Take the study's state where it knows more than this object, as after a restart."""
        text = history.load()
        if text is not None and json.loads(text)["learned"] > self.learned:
            self.load(text)
