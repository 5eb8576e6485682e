"""Activation patching: one place of a run takes the value it has in the counterfactual's run.

Noising breaks a clean run at one place, denoising mends a corrupt one (Heimersheim and Nanda 2024);
the first asks what the behaviour needs, the second what is enough to bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import AnyTask, behaviour_of, refuse_nan
from mechprobe.locate.measure import BATCH, baseline_for, difference, grid_for, measure
from mechprobe.locate.meter import Meter
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel
from mechprobe.models.places import (
    Place,
    pattern_places,
    place_hook,
    place_positions,
    read_places,
    residual_places,
    run_with_places,
)
from mechprobe.runs import progress as progress_bar
from mechprobe.sites import Site, SiteName
from mechprobe.tasks.behaviour import Behaviour

_TOKENS_AT_ONCE = 2048
_PLACES = ("resid", "pattern")


def patch(
    model: HookedModel,
    task: AnyTask,
    sites: str | Sequence[SiteName | Place] = "heads",
    direction: str = "noising",
    *,
    normalise: bool = False,
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool = True,
) -> Scores:
    """What each place contributes to the difference between clean and corrupt inputs.

    Args:
        task: prompts or a behaviour with counterfactuals.
        sites: "heads", "mlps", "all" (both), "residual" (what each block leaves at each position),
            "patterns" (attention weights of each head), or a list that may mix "5.1", "mlp.3",
            "resid 3 @ 5", "resid 3 @ -1" (last token), "resid 3 @ all" and "pattern 3.1".
        direction: "noising": the clean run with one place's corrupt value; effect = metric(clean) -
            metric(patched). "denoising": the corrupt run with one place's clean value; effect =
            metric(patched) - metric(corrupt).
        normalise: effects as shares of mean metric(clean) - mean metric(corrupt). On the scale
            where 0 is corrupt and 1 is clean the patched model stands at the effect (denoising) or
            at 1 - effect (noising). The interval takes the gap between clean and corrupt as known.
        metric, n, split, seed, batch_size, progress: as in ``mechprobe.ablate``.

    Returns:
        Scores; ``settings`` holds the mean metric on "clean" and on "corrupt" inputs.

    Raises:
        InputError: no counterfactuals, an unknown direction, places that do not exist, "residual"
            for prompts of several lengths, or ``normalise`` where clean and corrupt inputs hardly
            differ.
    """
    if direction not in ("noising", "denoising"):
        raise InputError(f"direction={direction!r}; give 'noising' or 'denoising'")
    behaviour = behaviour_of(model, task, metric=metric, split=split, n=n, seed=seed)
    other = behaviour.swapped()
    places = named_places(model, behaviour, sites)
    clean, corrupt = (_untouched(model, b, batch_size) for b in (behaviour, other))
    start, values = (behaviour, clean) if direction == "noising" else (other, corrupt)
    patched, passes = _patched(model, start, places, batch_size, progress)
    against = np.broadcast_to(values, patched.shape)
    effects = difference(against, patched, model)
    if direction == "denoising":
        effects = -effects
    if normalise:
        effects = effects / _gap(clean, corrupt, behaviour)
    select, report = behaviour.halves(seed)
    gates_only = all(isinstance(place, Site) for place in places)
    settings = {
        "task": behaviour.name, "n": len(behaviour), "seed": seed, "normalised": normalise,
        "clean": float(clean.mean()), "corrupt": float(corrupt.mean()),
    }
    return Scores(
        method=f"patch, {direction}", sites=tuple(map(str, places)), effects=effects + 0.0,
        select=select, report=report,
        metric=behaviour.metric_name + (" (share of clean - corrupt)" if normalise else ""),
        baseline="paired", forwards=2 + passes, settings=settings,
        grid=_grid(model, places) if gates_only else None,
    )


def named_places(
    model: HookedModel, behaviour: Behaviour, sites: str | Sequence[SiteName | Place]
) -> list[Site | Place]:
    """Sites and places from what a user names; raises InputError as ``patch``."""
    if sites == "patterns":
        return [*pattern_places(model)]
    if sites == "residual":
        real = {stack: behaviour.inputs.real(stack).sum(1) for stack in ("", "enc", "dec")}
        for lengths in real.values():
            if int(lengths.min()) != int(lengths.max()):
                raise InputError(
                    f"{behaviour.name}: examples of {int(lengths.min())} to {int(lengths.max())} "
                    "tokens, so positions mean different things; name them from the end, such as "
                    "'resid 0 @ -1', or give prompts of one length"
                )
        return [*residual_places(model, {s: int(length[0]) for s, length in real.items()})]
    if isinstance(sites, str):
        if sites not in ("heads", "mlps", "all"):
            raise InputError(
                f"sites={sites!r}; give 'heads', 'mlps', 'all', 'residual', 'patterns' or a list"
            )
        return [*grid_for(model, sites)[1]]
    out: list[Site | Place] = []
    for named in sites:
        if isinstance(named, Place) or (isinstance(named, str) and _is_place(named)):
            place = Place.parse(named)
            place_hook(model, place)
            if place.position is not None:
                place_positions(place, behaviour.inputs)
            out.append(place)
        else:
            out += grid_for(model, [named])[1]
    if double := [place for place in out if out.count(place) > 1]:
        raise InputError(f"{str(double[0])!r} is named twice; name each once")
    if not out:
        raise InputError("no places were named; give 'heads', 'mlps', 'all' or a list")
    return out


def _is_place(text: str) -> bool:
    return any(word in text.split() for word in _PLACES)


def _grid(model: HookedModel, places: Sequence[Site | Place]):
    return grid_for(model, [place for place in places if isinstance(place, Site)])[0]


def _untouched(model: HookedModel, behaviour: Behaviour, batch_size: int):
    grid, _ = grid_for(model, "all")
    stands = baseline_for("paired", model, behaviour, grid)
    return measure(model, behaviour, None, grid, stands, batch_size=batch_size)[0]


def _patched(
    model: HookedModel, behaviour: Behaviour, places: Sequence[Site | Place], batch_size: int,
    progress: bool,
) -> tuple[Float[np.ndarray, "place example"], int]:
    """The metric with each place taken from the counterfactual's run, and the passes it took."""
    out = np.full((len(places), len(behaviour)), np.nan)
    show = "patch" if progress else None
    gates = [(i, place) for i, place in enumerate(places) if isinstance(place, Site)]
    hooks = [(i, place) for i, place in enumerate(places) if isinstance(place, Place)]
    passes = 0
    if gates:
        grid, chosen = grid_for(model, [site for _, site in gates])
        stands = baseline_for("paired", model, behaviour, grid)
        meter = Meter(model, behaviour, grid, chosen, stands, batch_size, 0, show)
        out[[i for i, _ in gates]] = meter.closing([site] for site in chosen)
        passes += meter.passes
    if hooks:
        chosen = [place for _, place in hooks]
        out[[i for i, _ in hooks]] = _at_places(model, behaviour, chosen, batch_size, progress)
        passes += 1 + len(hooks)
    return out, passes


@torch.no_grad()
def _at_places(
    model: HookedModel, behaviour: Behaviour, places: Sequence[Place], batch_size: int,
    progress: bool,
) -> Float[np.ndarray, "place example"]:
    out = np.full((len(places), len(behaviour)), np.nan)
    batches = behaviour.batches(batch_size)
    bar = progress_bar(len(batches), "patch") if progress else None
    for batch in batches:
        _, values = read_places(model, behaviour.counterfactual(batch), places)
        rows = batch.index.cpu().numpy()
        chunk = max(1, _TOKENS_AT_ONCE // max(1, batch.n_positions))
        for first in range(0, len(places), chunk):
            logits = run_with_places(model, batch, places[first : first + chunk], values)
            for i, row in enumerate(logits, first):
                outcome = behaviour.measure(row, batch).double().cpu().numpy()
                refuse_nan(outcome, batch, behaviour)
                out[i, rows] = outcome
        if bar is not None:
            bar.update()
    if bar is not None:
        bar.close()
    return out


def _gap(
    clean: Float[np.ndarray, " example"], corrupt: Float[np.ndarray, " example"],
    behaviour: Behaviour,
) -> float:
    """Mean metric(clean) - mean metric(corrupt), when it can be divided by.

    Raises:
        InputError: it is not above 0 by two standard errors and by a thousandth of the metric.
    """
    gaps = clean - corrupt
    gap = float(gaps.mean())
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    size = float(np.abs(clean).mean() + np.abs(corrupt).mean())
    if gap <= max(2 * error, 1e-3 * size):
        raise InputError(
            f"{behaviour.name}: {behaviour.metric_name} is {clean.mean():.4g} on clean and "
            f"{corrupt.mean():.4g} on corrupt inputs (difference {gap:.4g}, standard error "
            f"{error:.2g}), too close to divide by; leave normalise out, or choose counterfactuals "
            "that change the answer"
        )
    return gap
