"""Behaviours of language models from cards: prompts, counterfactuals and what should follow."""

from mechprobe.tasks.language.task import ExpectedHeads, LanguageTask

__all__ = ["ExpectedHeads", "LanguageTask"]
