"""Search many subnetworks of one frozen model: seeds x sparsities, each a learned mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline, make_baseline
from mechprobe.gates.evaluate import evaluate
from mechprobe.locate import hard_concrete
from mechprobe.locate.masks import (
    MaskSettings,
    Member,
    check_sparsity,
    full_model_logits,
    held_settings,
    published_settings,
    scaled,
    train_masks,
)
from mechprobe.locate.subnetworks import Subnetwork, SubnetworkSet
from mechprobe.models.classifier import HookedClassifier
from mechprobe.models.decoder_classifier import Classifier, HookedDecoderClassifier
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.given import check_model
from mechprobe.runs import progress
from mechprobe.sites import SiteGrid
from mechprobe.tasks.batches import Batch, encode_pairs
from mechprobe.tasks.examples import Task
from mechprobe.tasks.metrics import accuracy, kl
from mechprobe.training.fit import StateStore


def find_subnetworks(
    model: HookedModel,
    task: Task,
    *,
    sparsity: float | Iterable[float] = 0.5,
    seeds: Iterable[int] = range(6),
    sites: str = "all",
    baseline: str = "mean",
    rule: str = "held",
    steps: int | None = None,
    batch_size: int = 32,
    n_examples: int | None = 4_096,
    n_dev: int | None = 1_000,
    max_length: int = 128,
    chunk: int | None = None,
    recompute: bool | None = None,
    store: Callable[[str], StateStore] | None = None,
) -> SubnetworkSet:
    """Learn one mask per seed and sparsity, and score each on the task's development split.

    Args:
        model: a classifier from ``mechprobe.load_model``; stays untouched.
        task: its "train" split drives the search and the mean baseline, "dev" the scores.
        sparsity: share(s) of sites closed, each inside (0, 1); met exactly, to the nearest gate.
        seeds: one subnetwork a seed and sparsity.
        sites: "all" (heads and MLP layers), "heads", "mlps" or "neurons" (of the MLPs).
        baseline: "zero", "mean", "mean_position" or "resample".
        rule: "held" (default; 250 steps), which holds the sparsity in every step; "expected" (500
            steps), a Lagrangian on the expected sparsity: its seeds end further apart, and each
            further from the full model; "published" (Bhaskar et al. 2024, section 3).
        steps: optimiser steps a mask; None takes the rule's own.
        n_examples: training examples used at most (None: all); ``n_dev`` likewise.
        chunk, recompute: as of ``train_masks``.
        store: gives a state store by name, so that a killed search resumes (``Run.checkpoint``).

    Returns:
        The set; each member's scores hold "kl" and "accuracy" of the binary gates on "dev".

    Raises:
        InputError: a sparsity outside (0, 1), an unknown rule, baseline or choice of sites, sites
            the model has none of, or a model that is no classifier with the task's labels.
    """
    check_model(model)
    if not isinstance(task, Task):
        raise InputError(
            f"find_subnetworks needs a Task with train and dev splits (mp.load_task), not a "
            f"{type(task).__name__}; for prompts use mp.masked_subnetworks(model, task)"
        )
    targets = [check_sparsity(s) for s in _several(sparsity)]
    seeds = list(seeds)
    if odd := [seed for seed in seeds if not isinstance(seed, int | np.integer)]:
        raise InputError(f"seed {odd[0]!r}; give whole numbers")
    model, tokenizer = _checked(model, task)
    grid = choose_sites(site_grid(model), sites)
    device = next(model.parameters()).device
    train = task.split("train")
    if n_examples is not None and n_examples < len(train):
        train = train.sample(n_examples, seed=0)
    dev = task.split("dev")
    if n_dev is not None and n_dev < len(dev):
        dev = dev.sample(n_dev, seed=0)
    batches = [b.to(device) for b in encode_pairs(train, tokenizer, max_length).batches(batch_size)]
    if baseline == "resample":
        batches = [b for b in batches if len(b) > 1]  # one example has no other to donate
    size = 128 - (len(dev) % 128 == 1)  # no batch of one: resampling needs two
    held_out = [b.to(device) for b in encode_pairs(dev, tokenizer, max_length).batches(size)]
    stands = make_baseline(baseline, model, batches, grid)
    accept = torch.from_numpy(task.accept(dev)).to(device)
    members = [Member(seed, target) for target in targets for seed in seeds]
    name = "-".join(f"{target:g}" for target in targets)
    found = search(
        model, batches, members, grid, stands,
        [rule_settings(rule, member.sparsity, steps) for member in members],
        chunk=chunk, recompute=recompute,
        store=None if store is None else store(f"masks-{name}"),
    )
    scores = score_members(model, held_out, found, stands, accept)
    return SubnetworkSet(tuple(
        member.with_scores(row) for member, row in zip(found, scores, strict=True)
    ))


def search(
    model: HookedModel,
    batches: Sequence[Batch],
    members: Sequence[Member],
    grid: SiteGrid,
    baseline: Baseline,
    settings: MaskSettings | Sequence[MaskSettings],
    *,
    full_logits: Sequence[Tensor] | None = None,
    order_seed: int = 0,
    chunk: int | None = None,
    recompute: bool | None = None,
    store: StateStore | None = None,
    on_step: Callable[[int, dict[str, list[float]]], None] | None = None,
    description: str = "mask search",
) -> list[Subnetwork]:
    """Train the members together and binarise each to its target; see ``train_masks``.

    Args:
        description: what the progress bar says.

    Returns:
        A subnetwork a member, in order, but for those that diverged (a warning names them).
    """
    each = [settings] * len(members) if isinstance(settings, MaskSettings) else list(settings)
    with progress(max((own.steps for own in each), default=0), description) as bar:

        def step_done(step: int, report: dict[str, list[float]]) -> None:
            bar.update(step - bar.n)
            if on_step is not None:
                on_step(step, report)

        log_alpha = train_masks(
            model, batches, members, grid, baseline, each, order_seed=order_seed,
            full_logits=full_logits, chunk=chunk, recompute=recompute, store=store,
            on_step=step_done,
        )
    return [
        binarise(row.cpu(), member, grid, own, baseline.kind)
        for row, member, own in zip(log_alpha, members, each, strict=True)
        if not row.isnan().any()
    ]


def binarise(
    log_alpha: Float[Tensor, "site"], member: Member, grid: SiteGrid, settings: MaskSettings,
    baseline_kind: str,
) -> Subnetwork:
    """A subnetwork with soft gates (published rule) and binary gates that meet the target."""
    binary = hard_concrete.close_lowest(log_alpha, member.sparsity)
    soft = hard_concrete.close_expected(log_alpha, mask_tensors(grid))
    return Subnetwork(
        soft=soft.numpy().astype(np.float32),
        binary=binary.numpy(),
        log_alpha=log_alpha.numpy().astype(np.float32),
        sites=grid,
        sparsity_target=member.sparsity,
        sparsity=float(1 - binary.float().mean()),
        seed=member.seed,
        settings={**asdict(settings), "baseline": baseline_kind},
        scores={},
    )


def score_members(
    model: HookedModel, batches: Sequence[Batch], members: Sequence[Subnetwork],
    baseline: Baseline, accept: Tensor,
) -> list[dict[str, float]]:
    """Mean accuracy and mean KL from the full model of each member's binary gates."""
    grid = members[0].sites
    device = batches[0].tokens.device
    gates = torch.stack([torch.as_tensor(m.gates("binary")) for m in members]).float().to(device)
    full = full_model_logits(model, batches)
    wanted = {id(batch): logits for batch, logits in zip(batches, full, strict=True)}

    def right(logits: Tensor, batch: Batch) -> Tensor:
        return accuracy(logits, accept[batch.index])

    def faithfulness(logits: Tensor, batch: Batch) -> Tensor:
        return kl(wanted[id(batch)], logits)

    accuracies = evaluate(model, batches, gates, grid, baseline, right).mean(1)
    kls = evaluate(model, batches, gates, grid, baseline, faithfulness).mean(1)
    return [
        {"accuracy": float(a), "kl": float(b)} for a, b in zip(accuracies, kls, strict=True)
    ]


def rule_settings(rule: str, sparsity: float, steps: int | None) -> MaskSettings:
    """The settings of a rule by name, scaled to ``steps`` when given."""
    if rule == "held":
        return held_settings() if steps is None else held_settings(steps)
    settings = published_settings(sparsity) if rule == "published" else MaskSettings(rule=rule)
    return settings if steps is None else scaled(settings, steps)


def choose_sites(grid: SiteGrid, sites: str) -> SiteGrid:
    """The grid that gates only "all" (heads and MLP layers), "heads", "mlps" or "neurons".

    Raises:
        InputError: another word, or MLP layers or neurons of a model that has none.
    """
    kinds = {"all": ("heads", "mlps"), "heads": ("heads",), "mlps": ("mlps",),
             "neurons": ("neurons",)}
    if sites not in kinds:
        raise InputError(f"sites={sites!r}; expected one of {', '.join(map(repr, kinds))}")
    has = {"heads": grid.heads, "mlps": grid.mlps, "neurons": grid.mlps and grid.n_neurons > 0}
    if sites in has and not has[sites]:
        raise InputError(f"sites={sites!r}, but this model has none; give sites='heads'")
    return replace(grid, **{kind: kind in kinds[sites] and has[kind] for kind in has})


def mask_tensors(grid: SiteGrid) -> list[slice]:
    """The published mask tensors as columns of a gate vector: heads of each layer, all MLP layers.

    Neurons, which Bhaskar et al. do not gate, are a tensor a layer, as in CoFi (Xia et al. 2022).
    """
    mlps = slice(grid.n_head_sites, grid.n_head_sites + grid.n_mlp_sites)
    layered = {kind: [columns for site, columns in grid.layer_columns.items() if site.kind == kind]
               for kind in ("head", "neuron")}
    return [*layered["head"], *([mlps] if grid.mlps else []), *layered["neuron"]]


def _checked(model: HookedModel, task: Task) -> tuple[Classifier, PreTrainedTokenizerFast]:
    """The model and its tokenizer, when it is a classifier that can be scored on the task."""
    if not isinstance(model, HookedClassifier | HookedDecoderClassifier):
        raise InputError(
            f"a {type(model).__name__} has no labels; open it with load_model(..., labels="
            f"{task.labels}) and fit it on {task.name} first"
        )
    if model.labels != task.labels:
        raise InputError(
            f"the model's labels are {model.labels}, those of {task.name} are {task.labels}; they "
            "must be the same in the same order (load_model(..., labels=...) renames them)"
        )
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer; give load_model one: tokenizer=...")
    return model, cast(PreTrainedTokenizerFast, model.tokenizer)


def _several(sparsity: float | Iterable[float]) -> list[float]:
    return list(sparsity) if isinstance(sparsity, Iterable) else [sparsity]
