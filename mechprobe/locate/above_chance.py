"""Whether a model shows a behaviour at all, before anything asks which heads are behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.measure import BATCH
from mechprobe.locate.tabled import Tabled
from mechprobe.models.edits import HookedModel, forward
from mechprobe.stats import Interval, bootstrap_mean, wilson
from mechprobe.tasks.answers import LABEL_METRICS, METRICS, UNSCORED
from mechprobe.tasks.behaviour import Behaviour, Metric
from mechprobe.tasks.cards import load_task
from mechprobe.tasks.language import LanguageTask


@dataclass(frozen=True, repr=False)
class BehaviourCheck(Tabled):
    """How often a model is right, beside chance and beside counterfactual prompts.

    Attributes:
        name: of the behaviour.
        metric: what "right" means.
        right: share of examples it is right on, 95 % interval.
        chance: how often a guess would be.
        corrupt: how often the same answers are its own on the counterfactual prompts, which do not
            tell them; None where there are none.
        gain: ``right`` less ``corrupt``, over the same examples.
    """

    name: str
    metric: str
    right: Interval
    chance: float
    corrupt: Interval | None
    gain: Interval | None

    @property
    def above(self) -> bool:
        """Whether it is right more often than chance, and because of what the prompts tell.

        The lower ends of the 95 % intervals of ``right`` and of ``gain`` decide.
        """
        told = self.gain is None or self.gain.low > 0
        return self.right.low > self.chance and told

    def table(self) -> pd.DataFrame:
        """One row: behaviour, metric, n, right, low, high, chance, corrupt, gain and its ends."""
        none = Interval(float("nan"), float("nan"), float("nan"), 0)
        corrupt, gain = self.corrupt or none, self.gain or none
        return pd.DataFrame([{
            "behaviour": self.name, "metric": self.metric, "n": self.right.n,
            "right": self.right.estimate, "low": self.right.low, "high": self.right.high,
            "chance": self.chance, "corrupt": corrupt.estimate, "gain": gain.estimate,
            "gain_low": gain.low, "gain_high": gain.high, "above": self.above,
        }])

    def __str__(self) -> str:
        said = (
            f"{self.name}: right on {self.right:.1%} of {self.right.n} examples ({self.metric}), "
            f"chance {self.chance:.1%}"
        )
        if self.corrupt is None:
            return said
        return f"{said}; counterfactual prompts: {self.corrupt.estimate:.1%} (gain {self.gain:.1%})"


def check_behaviour(
    model: HookedModel,
    task: AnyTask,
    *,
    chance: float | None = None,
    split: str = "dev",
    n: int | None = 512,
    seed: int = 0,
    batch_size: int = BATCH,
) -> BehaviourCheck:
    """How often the model does what a task asks, with an interval and against chance.

    A card's own idea of right is used, else: the answer beats the wrong answer, else the accuracy.

    Args:
        chance: share of right guesses; None: the card's own, one half where two answers are
            compared, else the share of the commonest answer.
        split, n, seed, batch_size: as in ``mechprobe.ablate``.

    Raises:
        InputError: a chance outside 0 to 1, a behaviour without answers, or as ``behaviour_of``.
    """
    if chance is not None and not 0 <= chance < 1:
        raise InputError(f"chance={chance}; give the share of right guesses, 0 or more and below 1")
    task = load_task(task) if isinstance(task, str) else task
    behaviour = behaviour_of(model, task, split=split, n=n, seed=seed)
    name, metric = task.success if isinstance(task, LanguageTask) else _success(behaviour)
    asked = replace(behaviour, metric=metric, metric_name=name)
    values = _values(model, asked, batch_size)
    corrupt = None if asked.corrupt is None else _values(model, asked.swapped(), batch_size)
    return BehaviourCheck(
        name=behaviour.name, metric=name, right=_share(values),
        chance=_chance(behaviour) if chance is None else chance,
        corrupt=None if corrupt is None else _share(corrupt),
        gain=None if corrupt is None else bootstrap_mean(values - corrupt),
    )


def require_behaviour(model: HookedModel, task: AnyTask, **settings) -> BehaviourCheck:
    """``check_behaviour``, refusing a behaviour that is not above chance.

    Raises:
        InputError: the model is not right more often than chance, or just as often on the
            counterfactual prompts; says what was measured.
    """
    check = check_behaviour(model, task, **settings)
    if not check.above:
        why = "not above chance" if check.right.low <= check.chance else (
            "the same without what the prompts tell"
        )
        raise InputError(
            f"{check}: the behaviour is {why}, so there is nothing to localise; take another model "
            "or another task"
        )
    return check


def _success(behaviour: Behaviour) -> tuple[str, Metric]:
    if "accept" in behaviour.targets:
        return "accuracy", LABEL_METRICS["accuracy"]
    if "answer" not in behaviour.targets:
        raise InputError(
            f"{behaviour.name} names no answers, so nothing can be right; give answers"
        )
    name = "preference" if "wrong" in behaviour.targets else "accuracy"
    return name, METRICS[name]


def _chance(behaviour: Behaviour) -> float:
    targets = behaviour.targets
    if "chance" in targets:
        return float(targets["chance"].double().mean())
    if "accept" in targets:
        return float(targets["accept"].double().mean(0).max())
    if "wrong" in targets:
        return 0.5
    answers = targets["answer"][targets["answer"] != UNSCORED]
    return int(answers.unique(return_counts=True)[1].max()) / len(answers)


def _share(values: Float[np.ndarray, " example"]) -> Interval:
    """Wilson's interval of right and wrong, a bootstrap of shares in between."""
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values))
    return bootstrap_mean(values)


@torch.no_grad()
def _values(
    model: HookedModel, behaviour: Behaviour, batch_size: int
) -> Float[np.ndarray, " example"]:
    out = np.zeros(len(behaviour))
    for batch in behaviour.batches(batch_size):
        values = behaviour.measure(forward(model, batch), batch)
        out[batch.index.cpu().numpy()] = values.double().cpu().numpy()
    return out
