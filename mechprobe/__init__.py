"""mechprobe: open and close components of a frozen transformer and measure what happens.

Names are imported when first used, so that ``import mechprobe`` loads neither torch nor a model
library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechprobe.errors import InputError
    from mechprobe.gates.context import gated
    from mechprobe.gates.export import head_mask, to_hf
    from mechprobe.locate.ablate import ablate
    from mechprobe.locate.above_chance import BehaviourCheck, check_behaviour
    from mechprobe.locate.agree import rank_agreement
    from mechprobe.locate.attribute import attribute
    from mechprobe.locate.circuit_sets import Circuits
    from mechprobe.locate.circuits import find_circuits
    from mechprobe.locate.compare import compare_baselines
    from mechprobe.locate.cumulative import cumulative
    from mechprobe.locate.direct import direct_logit_attribution
    from mechprobe.locate.edges import EdgeScores
    from mechprobe.locate.faithfulness import Faithfulness, faithfulness
    from mechprobe.locate.learn import learn_masks, masked_subnetworks
    from mechprobe.locate.localise import localise
    from mechprobe.locate.located import Located
    from mechprobe.locate.patch import patch
    from mechprobe.locate.paths import head_edges, path_patch
    from mechprobe.locate.prefix_matching import prefix_matching
    from mechprobe.locate.random_sets import random_set_p
    from mechprobe.locate.scores import Scores
    from mechprobe.locate.search import find_subnetworks
    from mechprobe.locate.subnetworks import Subnetwork, SubnetworkSet
    from mechprobe.models import (
        HookedClassifier,
        HookedDecoderClassifier,
        build_classifier,
        build_decoder_classifier,
        build_encoder_decoder,
        from_hf,
        generate,
        load_model,
        run_with_cache,
        run_with_edits,
        save_model,
        site_grid,
    )
    from mechprobe.show.attention import show_attention
    from mechprobe.show.compare import compare_runs
    from mechprobe.show.explorer.explore import explore
    from mechprobe.show.logits import show_logits
    from mechprobe.show.tokens import show_tokens
    from mechprobe.sites import Site, SiteGrid
    from mechprobe.studies.by_name import run_study
    from mechprobe.tasks import (
        Behaviour,
        LanguageTask,
        PairExamples,
        PromptTask,
        SequencePairs,
        Task,
        list_tasks,
        load_abstraction,
        load_task,
        seq2seq_batch,
    )
    from mechprobe.tasks.blimp import load_blimp
    from mechprobe.tasks.minimal_pairs import MinimalPairs
    from mechprobe.tasks.pair_templates import generate_minimal_pairs
    from mechprobe.training.ftgd import TuneSettings
    from mechprobe.training.pretrain import pretrain
    from mechprobe.training.pretrain_settings import PretrainSettings
    from mechprobe.training.task_spaces import (
        PairAccuracy,
        ftgd,
        score_minimal_pairs,
        text_perplexity,
        transfer_matrix,
        tuned_model,
    )
    from mechprobe.training.transfer import TransferSpace

__version__ = "0.1.0"

_HOME = {
    "InputError": "errors",
    "Site": "sites",
    "SiteGrid": "sites",
    "Behaviour": "tasks",
    "LanguageTask": "tasks",
    "PairExamples": "tasks",
    "PromptTask": "tasks",
    "Task": "tasks",
    "list_tasks": "tasks",
    "SequencePairs": "tasks",
    "load_abstraction": "tasks",
    "load_task": "tasks",
    "seq2seq_batch": "tasks",
    "HookedClassifier": "models",
    "HookedDecoderClassifier": "models",
    "build_classifier": "models",
    "build_decoder_classifier": "models",
    "build_encoder_decoder": "models",
    "from_hf": "models",
    "generate": "models",
    "load_model": "models",
    "run_with_cache": "models",
    "run_with_edits": "models",
    "save_model": "models",
    "site_grid": "models",
    "gated": "gates.context",
    "head_mask": "gates.export",
    "to_hf": "gates.export",
    "Scores": "locate.scores",
    "ablate": "locate.ablate",
    "compare_baselines": "locate.compare",
    "cumulative": "locate.cumulative",
    "patch": "locate.patch",
    "EdgeScores": "locate.edges",
    "head_edges": "locate.paths",
    "path_patch": "locate.paths",
    "random_set_p": "locate.random_sets",
    "rank_agreement": "locate.agree",
    "Subnetwork": "locate.subnetworks",
    "SubnetworkSet": "locate.subnetworks",
    "find_subnetworks": "locate.search",
    "Circuits": "locate.circuit_sets",
    "find_circuits": "locate.circuits",
    "Faithfulness": "locate.faithfulness",
    "faithfulness": "locate.faithfulness",
    "learn_masks": "locate.learn",
    "masked_subnetworks": "locate.learn",
    "BehaviourCheck": "locate.above_chance",
    "check_behaviour": "locate.above_chance",
    "Located": "locate.located",
    "localise": "locate.localise",
    "prefix_matching": "locate.prefix_matching",
    "attribute": "locate.attribute",
    "direct_logit_attribution": "locate.direct",
    "run_study": "studies.by_name",
    "compare_runs": "show.compare",
    "MinimalPairs": "tasks.minimal_pairs",
    "generate_minimal_pairs": "tasks.pair_templates",
    "load_blimp": "tasks.blimp",
    "PretrainSettings": "training.pretrain_settings",
    "pretrain": "training.pretrain",
    "PairAccuracy": "training.task_spaces",
    "score_minimal_pairs": "training.task_spaces",
    "TuneSettings": "training.ftgd",
    "ftgd": "training.task_spaces",
    "text_perplexity": "training.task_spaces",
    "tuned_model": "training.task_spaces",
    "TransferSpace": "training.transfer",
    "transfer_matrix": "training.task_spaces",
    "show_attention": "show.attention",
    "show_tokens": "show.tokens",
    "show_logits": "show.logits",
    "explore": "show.explorer.explore",
}

_ROOMS = ("gates", "planted")
"""Rooms used by their name: ``mechprobe.planted.load_case``, ``with mechprobe.gates(...)``."""

__all__ = [
    "Behaviour",
    "BehaviourCheck",
    "Circuits",
    "EdgeScores",
    "Faithfulness",
    "HookedClassifier",
    "HookedDecoderClassifier",
    "InputError",
    "LanguageTask",
    "Located",
    "MinimalPairs",
    "PairAccuracy",
    "PairExamples",
    "PretrainSettings",
    "PromptTask",
    "Scores",
    "SequencePairs",
    "Site",
    "SiteGrid",
    "Subnetwork",
    "SubnetworkSet",
    "Task",
    "TransferSpace",
    "TuneSettings",
    "__version__",
    "ablate",
    "attribute",
    "build_classifier",
    "build_decoder_classifier",
    "build_encoder_decoder",
    "check_behaviour",
    "compare_baselines",
    "compare_runs",
    "cumulative",
    "direct_logit_attribution",
    "explore",
    "faithfulness",
    "find_circuits",
    "find_subnetworks",
    "from_hf",
    "ftgd",
    "gated",
    "generate",
    "generate_minimal_pairs",
    "head_edges",
    "head_mask",
    "learn_masks",
    "list_tasks",
    "load_abstraction",
    "load_blimp",
    "load_model",
    "load_task",
    "localise",
    "masked_subnetworks",
    "patch",
    "path_patch",
    "prefix_matching",
    "pretrain",
    "random_set_p",
    "rank_agreement",
    "run_study",
    "run_with_cache",
    "run_with_edits",
    "save_model",
    "score_minimal_pairs",
    "seq2seq_batch",
    "show_attention",
    "show_logits",
    "show_tokens",
    "site_grid",
    "text_perplexity",
    "to_hf",
    "transfer_matrix",
    "tuned_model",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"mechprobe.{name}")
    home = _HOME.get(name)
    if home is None:
        from difflib import get_close_matches

        near = get_close_matches(name, [*_HOME, *_ROOMS], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'mechprobe' has no attribute {name!r}{hint}")
    value = getattr(import_module(f"mechprobe.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
