"""Which heads are behind a behaviour, and how sure that is: check, localise, test by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.locate.ablate import ablate
from mechprobe.locate.above_chance import require_behaviour
from mechprobe.locate.attribute import attribute
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.direct import direct_logit_attribution
from mechprobe.locate.learn import learn_masks
from mechprobe.locate.located import Located
from mechprobe.locate.measure import difference
from mechprobe.locate.meter import meter_for
from mechprobe.locate.patch import patch
from mechprobe.locate.prefix_matching import prefix_matching
from mechprobe.locate.random_sets import SetTest, random_set_p
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel
from mechprobe.sites import Site
from mechprobe.tasks.behaviour import Behaviour
from mechprobe.tasks.cards import load_task
from mechprobe.tasks.language import ExpectedHeads, LanguageTask

REPEATING = ("induction", "names")
"""Forms of language cards whose prompts end in a token that came before."""


def _ablate(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return ablate(model, behaviour, "heads", baseline, n=None, seed=seed, progress=False)


def _patch(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return patch(model, behaviour, "heads", "noising", n=None, seed=seed, progress=False)


def _denoise(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return patch(model, behaviour, "heads", "denoising", n=None, seed=seed, progress=False)


def _attribute(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return attribute(model, behaviour, "heads", baseline, n=None, seed=seed, progress=False)


def _integrated(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return attribute(
        model, behaviour, "heads", baseline, method="integrated", n=None, seed=seed, progress=False
    )


def _masks(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    """Masks learn on the selection rows alone, so that the rest stays unseen."""
    seen = behaviour.take(behaviour.halves(seed)[0])
    return learn_masks(
        model, seen, "heads", baseline, sparsity=0.8, seeds=range(8), steps=150, n=None, seed=seed
    )


def _direct(model: HookedModel, behaviour: Behaviour, baseline: str, seed: int) -> Scores:
    return direct_logit_attribution(model, behaviour, "heads", n=None, seed=seed, progress=False)


METHODS: Mapping[str, Callable[[HookedModel, Behaviour, str, int], Scores]] = {
    "ablate": _ablate, "patch": _patch, "denoise": _denoise, "attribute": _attribute,
    "integrated": _integrated, "masks": _masks, "direct": _direct,
}


def localise(
    model: HookedModel,
    task: AnyTask,
    methods: Sequence[str] = ("ablate",),
    *,
    baseline: str = "mean",
    top: int = 5,
    split: str = "dev",
    n: int | None = 512,
    n_sets: int = 200,
    seed: int = 0,
    chance: float | None = None,
) -> Located:
    """Which heads a behaviour runs through, after making sure that the model shows it.

    Heads are ranked on one half of the examples. On the other half come their effects with
    intervals and corrected p-values, and what closing the ``top`` ones together does, beside random
    sets of as many heads. A card that repeats itself gets each head's prefix matching as an
    independent check, a model in whose card the literature names heads the overlap with those.

    Args:
        methods: of ``METHODS``; "patch" and "denoise" always use the paired baseline.
        baseline: what stands in a closed head's place; "paired" needs counterfactuals.
        top: heads of the set that is held against random sets; those without a positive effect on
            the selection half are left out.
        split, n, seed: which examples.
        n_sets: random sets, at least 100.
        chance: as in ``check_behaviour``.

    Raises:
        InputError: a behaviour that is not above chance (it says what was measured), an unknown
            method, or what a method refuses.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise InputError(f"unknown method {unknown[0]!r}; give some of {', '.join(METHODS)}")
    if top < 1 or not methods:
        raise InputError(f"top={top} heads by {len(methods)} methods; give one or more of each")
    task = load_task(task) if isinstance(task, str) else task
    check = require_behaviour(model, task, chance=chance, split=split, n=n, seed=seed)
    behaviour = behaviour_of(model, task, split=split, n=n, seed=seed)
    scores = {name: METHODS[name](model, behaviour, baseline, seed) for name in methods}
    tests = _against_random_sets(model, behaviour, scores, baseline, top, n_sets, seed)
    repeats = isinstance(task, LanguageTask) and task.card["form"] in REPEATING
    return Located(
        check=check, scores=scores, tests=tests,
        matching=prefix_matching(model, behaviour, n=None, seed=seed) if repeats else None,
        expected=_expected(model, task),
        settings={
            "task": behaviour.name, "split": split, "n": len(behaviour), "seed": seed,
            "baseline": baseline, "top": top, "n_sets": n_sets, "methods": list(methods),
        },
    )


def _against_random_sets(
    model: HookedModel, behaviour: Behaviour, scores: Mapping[str, Scores], baseline: str, top: int,
    n_sets: int, seed: int,
) -> dict[str, SetTest | None]:
    """The best heads of the selection half, closed together on the other; None if none is good.

    Methods with one baseline and as many heads share their random sets.
    """
    held = behaviour.take(np.asarray(behaviour.halves(seed)[1]))
    known: dict[tuple[str, int], SetTest] = {}
    tests: dict[str, SetTest | None] = {}
    for name, found in scores.items():
        stands = "paired" if name in ("patch", "denoise") else baseline
        best = _best(found, top)
        drawn = known.get((stands, len(best)))
        if not best:
            tests[name] = None
        elif drawn is None:
            tests[name] = known[stands, len(best)] = random_set_p(
                model, held, best, stands, among="heads", n_sets=n_sets, n=None, seed=seed,
                progress=False,
            )
        else:
            meter = meter_for(model, held, best, stands, n=None, seed=seed)
            whole, closed = meter.closing([(), best])
            effects = difference(whole, closed, model)
            tests[name] = replace(
                drawn, sites=tuple(best), effects=effects, forwards=meter.passes
            )
    return tests


def _best(found: Scores, top: int) -> list[str]:
    """The first heads of the ranking, less those whose effect on its half is not positive."""
    means = dict(zip(found.sites, found.effects[:, found.select].mean(1), strict=True))
    return [name for name in found.top(top) if means[name] > 0]


def _expected(model: HookedModel, task: Any) -> tuple[ExpectedHeads, ...]:
    """What the literature expects of this model; nothing where it has no such heads."""
    if not isinstance(task, LanguageTask):
        return ()
    cfg = model.cfg
    found = task.expected(cfg.original_architecture, (cfg.n_layers, cfg.n_heads, cfg.d_model))
    for entry in found:
        for head in entry.all():
            site = Site.parse(head)
            assert site.layer < cfg.n_layers
    return tuple(found)
