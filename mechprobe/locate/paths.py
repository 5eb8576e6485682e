"""Path patching: which heads talk to which, through query, key or value, and which to the logits.

A sender's output is replaced on its direct path to a receiver only: every other head keeps its
value in the run that tells what the receiver would read. That reading alone is then patched into an
untouched run (Wang et al. 2023, appendix B; Goldowsky-Dill et al. 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask
from mechprobe.locate.edges import Edge, EdgeScores
from mechprobe.locate.measure import BATCH, chosen_sites, difference
from mechprobe.locate.meter import Meter, meter_for
from mechprobe.models.edits import HookedModel, run_with_cache
from mechprobe.models.paths import INPUTS, HeadInput, reaches, receive, send, separate_heads
from mechprobe.runs import progress as progress_bar
from mechprobe.sites import Site, SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

LOGITS = "logits"
_TOKENS_AT_ONCE = 4096


def path_patch(
    model: HookedModel,
    task: AnyTask,
    senders: str | Sequence[SiteName] = "heads",
    receivers: str | Sequence[SiteName] = LOGITS,
    baseline: str | Baseline = "paired",
    *,
    mlps: str = "recompute",
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> EdgeScores:
    """The effect of every sender on every receiver along the direct path between them.

    Each effect is metric(full model) - metric(the receiver reads what it would read if the sender
    gave its baseline value and all other heads their own). It costs a pass a sender and a pass an
    edge; effects on the logits come with the sender's pass.

    Args:
        senders: "heads", "mlps", "all" or a list of heads and MLP layers. Of a group by name those
            without a path to a receiver are left out.
        receivers: "logits", or a list of "5.1 q", "5.1 k", "5.1 v", "5.1" (all three at once),
            "5.* q" (every head of a layer) and "logits".
        baseline: what replaces a sender's output; "paired" is its counterfactual value.
        mlps: "recompute": MLPs pass on what they make of the sender's change, so that a path
            through MLPs counts as direct (Wang et al. 2023); "freeze": they keep their values, and
            only the residual stream connects.
        metric: instead of the task's own.
        n: examples at most; None takes all.
        split: of a sentence-pair task.
        reference: what a mean baseline is taken over; None: the examples themselves.
        batch_size: examples a batch.
        progress: show a bar when it takes long.

    Raises:
        InputError: a receiver that a sender cannot reach (an earlier or the same layer), that is
            no head, or that does not exist; an unknown ``mlps``; as ``ablate``.
    """
    meter = meter_for(
        model, task, senders, baseline, metric=metric, n=n, split=split, seed=seed,
        reference=reference, batch_size=batch_size, show="path_patch" if progress else None,
    )
    named = [receivers] if isinstance(receivers, str) else [*receivers]
    edges = []
    for end in (end for name in named for end in _ends(meter, name)):
        able = [s for s in meter.sites if _parts(s, end)]
        if not able or (not isinstance(senders, str) and len(able) < len(meter.sites)):
            lost = next(s for s in meter.sites if s not in able)
            raise InputError(
                f"sender {lost} has no direct path to {' '.join(end).strip()}: senders must stand "
                "in an earlier layer (of the same stack); leave it out or choose another receiver"
            )
        edges += [Edge(str(sender), *end) for sender in able]
    return _scored(meter, edges, mlps, seed, "path patching")


def head_edges(
    model: HookedModel,
    task: AnyTask,
    heads: Sequence[SiteName],
    baseline: str | Baseline = "paired",
    *,
    logits: bool = True,
    mlps: str = "recompute",
    metric: str | Callable[..., Tensor] | None = None,
    n: int | None = 512,
    split: str = "dev",
    seed: int = 0,
    reference: Sequence[Batch] | Behaviour | None = None,
    batch_size: int = BATCH,
    progress: bool = True,
) -> EdgeScores:
    """All edges among a set of heads: each to the query, key and value of each later one.

    Args:
        heads: the nodes; MLP layers among them only send.
        logits: whether to add each one's edge to the logits.

    The others are those of ``path_patch``. The table is the graph: sender, receiver, input, effect,
    low, high, p_corrected.

    Raises:
        InputError: no two of the heads stand in different layers (and no edges to the logits are
            asked for); as ``path_patch``.
    """
    meter = meter_for(
        model, task, heads, baseline, metric=metric, n=n, split=split, seed=seed,
        reference=reference, batch_size=batch_size, show="head_edges" if progress else None,
    )
    receivers = [site for site in meter.sites if site.kind == "head"]
    ends = [(str(head), which) for head in receivers for which in INPUTS]
    ends += [(LOGITS, "")] * logits
    edges = [
        Edge(str(sender), *end) for end in ends for sender in meter.sites if _parts(sender, end)
    ]
    if not edges:
        raise InputError(
            f"no direct path joins any of {', '.join(map(str, meter.sites))}; name heads of "
            "different layers, or logits=True"
        )
    return _scored(meter, edges, mlps, seed, "head edges")


def edge_effects(
    meter: Meter, edges: Sequence[Edge], *, mlps: str = "recompute"
) -> Float[np.ndarray, "edge example"]:
    """metric(full) - metric(edge patched) of any edges, grouped by sender and run in chunks.

    Raises:
        InputError: an unknown ``mlps``; a metric that is NaN or infinite.
    """
    if mlps not in ("recompute", "freeze"):
        raise InputError(f"mlps={mlps!r}; give 'recompute' or 'freeze'")
    model, behaviour = meter.model, meter.behaviour
    full = np.zeros(len(behaviour))
    patched = np.zeros((len(edges), len(behaviour)))
    batches = behaviour.batches(meter.batch_size)
    senders = {edge.sender for edge in edges}
    inward = sum(edge.receiver != LOGITS for edge in edges)
    shown = batches if meter.show is None else progress_bar(batches, meter.show)
    with torch.no_grad(), separate_heads(model):
        for batch in shown:
            rows = batch.index.cpu().numpy()
            full[rows], outcomes = _one_batch(meter, batch, edges, freeze=mlps == "freeze")
            for i, values in outcomes:
                patched[i, rows] = values
    meter.passes += 1 + len(senders) + inward + (meter.baseline.kind in ("resample", "paired"))
    for which, values in (("the full model", full), ("a patched model", patched)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][-1])
            raise InputError(
                f"{behaviour.name}: metric {behaviour.metric_name!r} of {which} is not finite on "
                f"example {row}; leave that example out or mend the metric"
            )
    return difference(np.broadcast_to(full, patched.shape), patched, model)


def _one_batch(
    meter: Meter, batch: Batch, edges: Sequence[Edge], *, freeze: bool
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """The full model's metric on a batch, and that of every edge by its number."""
    model = meter.model
    instead = meter.baseline.values(model, batch, meter.grid)
    logits, clean = run_with_cache(model, batch, meter.grid.layer_columns)
    keep = {site: v for site, v in clean.items() if site.kind == "head" or freeze}
    full = _metric(meter, logits, batch)
    outcomes: list[tuple[int, np.ndarray]] = []
    senders = list(dict.fromkeys(edge.sender for edge in edges))
    chunk = max(1, _TOKENS_AT_ONCE // max(1, batch.n_positions))
    for part in _chunks(senders, chunk):
        mine = {i: edge for i, edge in enumerate(edges) if edge.sender in part}
        inputs = {i: _parts(Site.parse(e.sender), e[1:]) for i, e in mine.items()}
        reads = dict.fromkeys(place for places in inputs.values() for place in places if place)
        logits, found = send(model, batch, [Site.parse(s) for s in part], instead, keep, reads)
        patches: dict[int, Mapping[HeadInput, Tensor]] = {}
        for i, edge in mine.items():
            run = part.index(edge.sender)
            if edge.receiver == LOGITS:
                outcomes.append((i, _metric(meter, logits[run], batch)))
            else:
                patches[i] = {place: found[place][run] for place in inputs[i] if place}
        for few in _chunks(list(patches), chunk):
            runs = receive(model, batch, [patches[i] for i in few])
            outcomes += [(i, _metric(meter, run, batch)) for i, run in zip(few, runs, strict=True)]
    return full, outcomes


def _metric(meter: Meter, logits: Tensor, batch: Batch) -> Float[np.ndarray, " batch"]:
    return meter.behaviour.measure(logits, batch).double().cpu().numpy()


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _ends(meter: Meter, named: SiteName) -> list[tuple[str, str]]:
    """What a user's receiver means: (head, input) of each, or the logits."""
    name = named if isinstance(named, str) else str(Site.parse(named))
    if name.strip() == LOGITS:
        return [(LOGITS, "")]
    words = name.split()
    which = words.pop() if words[-1:] and words[-1] in INPUTS else "".join(INPUTS)
    heads = chosen_sites(meter.grid, [" ".join(words)])
    if other := [head for head in heads if head.kind != "head"]:
        raise InputError(
            f"receiver {str(other[0])!r} is no head; give 'logits', heads such as '5.1' or their "
            "inputs such as '5.1 q'"
        )
    return [(str(head), which) for head in heads]


def _parts(sender: Site, end: Sequence[str]) -> list[HeadInput | None]:
    """The inputs of a receiver that a sender's direct path enters; [None]: the logits."""
    receiver, which = end
    if receiver == LOGITS:
        return [None] if reaches(sender, None) else []
    places = [HeadInput(Site.parse(receiver), letter) for letter in which]
    return [place for place in places if reaches(sender, place)]


def _scored(
    meter: Meter, edges: list[Edge], mlps: str, seed: int, method: str
) -> EdgeScores:
    edges = list(dict.fromkeys(edges))
    if neuron := next((site for site in meter.sites if site.kind == "neuron"), None):
        raise InputError(f"{neuron} is a neuron; paths start at heads and MLP layers")
    effects = edge_effects(meter, edges, mlps=mlps)
    select, report = meter.behaviour.halves(seed)
    return EdgeScores(
        method=method, edges=tuple(edges), effects=effects, select=select, report=report,
        metric=meter.behaviour.metric_name, baseline=meter.baseline.kind, forwards=meter.passes,
        settings={
            "mlps": mlps, "task": meter.behaviour.name, "n": len(meter.behaviour), "seed": seed,
        },
        grid=meter.grid,
    )
