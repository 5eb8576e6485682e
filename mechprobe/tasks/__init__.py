"""Task cards, their examples, padded batches of them, and per-example metrics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechprobe.tasks.abstraction import AbstractionTasks, SequencePairs, load_abstraction
    from mechprobe.tasks.batches import Batch, Encoded, Seq2SeqBatch, encode_pairs, word_tokenizer
    from mechprobe.tasks.behaviour import Behaviour
    from mechprobe.tasks.cards import list_tasks, load_task
    from mechprobe.tasks.examples import PairExamples, Task
    from mechprobe.tasks.language import LanguageTask
    from mechprobe.tasks.metrics import accuracy, kl, label_loss, logit_difference
    from mechprobe.tasks.prompts import PromptTask
    from mechprobe.tasks.seq2seq import seq2seq_batch

_HOME = {
    "AbstractionTasks": "abstraction",
    "SequencePairs": "abstraction",
    "load_abstraction": "abstraction",
    "Behaviour": "behaviour",
    "PromptTask": "prompts",
    "PairExamples": "examples",
    "LanguageTask": "language",
    "Task": "examples",
    "load_task": "cards",
    "list_tasks": "cards",
    "Batch": "batches",
    "Encoded": "batches",
    "Seq2SeqBatch": "batches",
    "seq2seq_batch": "seq2seq",
    "encode_pairs": "batches",
    "word_tokenizer": "batches",
    "accuracy": "metrics",
    "kl": "metrics",
    "label_loss": "metrics",
    "logit_difference": "metrics",
}

__all__ = [
    "AbstractionTasks",
    "Batch",
    "Behaviour",
    "Encoded",
    "LanguageTask",
    "PairExamples",
    "PromptTask",
    "Seq2SeqBatch",
    "SequencePairs",
    "Task",
    "accuracy",
    "encode_pairs",
    "kl",
    "label_loss",
    "list_tasks",
    "load_abstraction",
    "load_task",
    "logit_difference",
    "seq2seq_batch",
    "word_tokenizer",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that listing cards does not load torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
