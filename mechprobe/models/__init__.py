"""Open, build, run, edit and keep models; the only room that knows TransformerLens."""

from mechprobe.models.build import build_decoder, build_encoder
from mechprobe.models.classifier import HookedClassifier, build_classifier
from mechprobe.models.decoder_classifier import HookedDecoderClassifier, build_decoder_classifier
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
from mechprobe.models.encoder_decoder import build_encoder_decoder
from mechprobe.models.fixed_length import HookedFixedLengthEncoder, build_fixed_length_encoder
from mechprobe.models.generate import generate
from mechprobe.models.hf import from_hf, to_hf
from mechprobe.models.llama2c import load_llama2c
from mechprobe.models.load import load_model, packaged_minilm
from mechprobe.models.save import save_model

__all__ = [
    "HookDidNotFire",
    "HookedClassifier",
    "HookedDecoderClassifier",
    "HookedFixedLengthEncoder",
    "HookedModel",
    "attention_patterns",
    "build_classifier",
    "build_decoder",
    "build_decoder_classifier",
    "build_encoder",
    "build_encoder_decoder",
    "build_fixed_length_encoder",
    "forward",
    "from_hf",
    "generate",
    "hook_name",
    "load_llama2c",
    "load_model",
    "packaged_minilm",
    "run_with_cache",
    "run_with_edits",
    "save_model",
    "site_grid",
    "to_hf",
]
