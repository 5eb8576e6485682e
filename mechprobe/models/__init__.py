"""Open, build, run, edit and keep models; the only room that knows TransformerLens."""

from mechprobe.models.build import build_decoder, build_encoder
from mechprobe.models.classifier import HookedClassifier, build_classifier
from mechprobe.models.edits import (
    HookDidNotFire,
    HookedModel,
    attention_patterns,
    forward,
    hook_name,
    run_with_cache,
    run_with_edits,
    site_grid,
)

__all__ = [
    "HookDidNotFire",
    "HookedClassifier",
    "HookedModel",
    "attention_patterns",
    "build_classifier",
    "build_decoder",
    "build_encoder",
    "forward",
    "hook_name",
    "run_with_cache",
    "run_with_edits",
    "site_grid",
]
