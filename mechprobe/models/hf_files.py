"""Models in Hugging Face's format, read from a folder or fetched from the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformer_lens import HookedEncoder, HookedTransformer
from transformer_lens.loading_from_pretrained import make_model_alias_map
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mechprobe.errors import InputError
from mechprobe.models.build import transformer_lens_quiet
from mechprobe.models.edits import HookedModel
from mechprobe.models.hf import SUPPORTED, convert
from mechprobe.models.save import DESCRIPTION, load_tokenizer

HF_CLASSES = {kind.__name__: kind for kind in SUPPORTED}
# what a folder is read as when its config names no class we convert
FALLBACK = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "t5": "T5ForConditionalGeneration",
}


def load_from_folder(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
    seed: int,
) -> HookedModel:
    """The model of a folder that Hugging Face's ``save_pretrained`` wrote.

    Raises:
        InputError: no model there, one of another kind, or weights that cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no model: it has neither {DESCRIPTION} nor config.json; give a folder "
            "written by save_model or by Hugging Face's save_pretrained"
        ) from None
    except ValueError as error:
        raise InputError(f"{folder}/config.json is not JSON ({error}); mend or fetch it") from None
    if not isinstance(config, dict):
        raise InputError(f"{folder}/config.json holds no JSON object; mend or fetch it")
    module, missing = _read_hf(folder, config, headless=labels is not None, local=True)
    return convert(module, tokenizer or load_tokenizer(folder), labels, seed, missing)


def load_from_hub(
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str] | None,
    seed: int,
    settings: Mapping[str, Any],
) -> HookedModel:
    """The model of a hub name; ``settings`` go to TransformerLens where it reads the model.

    Raises:
        InputError: a name the hub does not give, or a model of another kind.
    """
    official = make_model_alias_map().get(name.lower())
    try:
        if official is None or "/t5" in official:  # TransformerLens' T5 knows only 1.0
            source = official or name
            config = AutoConfig.from_pretrained(source).to_dict()
            module, missing = _read_hf(source, config, headless=labels is not None, local=False)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(source)
            return convert(module, tokenizer, labels, seed, missing)
        kind = _hooked_class(official)
        with transformer_lens_quiet():
            if kind is HookedEncoder:
                return HookedEncoder.from_pretrained(
                    name, tokenizer=tokenizer, device="cpu", **settings
                )
            return HookedTransformer.from_pretrained_no_processing(
                name, tokenizer=tokenizer, device="cpu", **settings
            )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name!r} is neither a local folder nor a model the hub gave ({reason}); check the "
            "name and the network, or give the path of a model folder"
        ) from error


def _hooked_class(official: str) -> type[HookedTransformer] | type[HookedEncoder]:
    """Which TransformerLens class opens a name it knows; raises InputError for other kinds."""
    if "bert" in official.lower() and "hubert" not in official.lower():
        return HookedEncoder
    if any(part in official.lower() for part in ("hubert", "wav2vec")):
        raise InputError(
            f"{official!r} is neither an encoder nor a decoder of text; give one like BERT or GPT-2"
        )
    return HookedTransformer


def _read_hf(
    source: Path | str, config: Mapping[str, Any], *, headless: bool, local: bool
) -> tuple[nn.Module, set[str]]:
    """A Hugging Face module and the names of weights that were not in its files."""
    model_type, architectures = config.get("model_type"), config.get("architectures") or ()
    named = [name for name in HF_CLASSES if name in architectures]
    if not isinstance(model_type, str) or model_type not in FALLBACK:
        raise InputError(
            f"{source} holds a {model_type!r} model; supported are {', '.join(FALLBACK)} "
            f"({', '.join(HF_CLASSES)})"
        )
    name = named[0] if named else FALLBACK[model_type]
    if headless and name in ("BertForMaskedLM", "BertForPreTraining"):
        name = "BertModel"  # keeps the pooler, which a masked-LM class leaves in the file
    kind: Any = HF_CLASSES[name]
    try:
        with _no_bars(), torch.random.fork_rng(devices=[]):
            module, report = kind.from_pretrained(
                source, local_files_only=local, weights_only=True, output_loading_info=True
            )
    except Exception as error:  # a spoilt config or file fails anywhere in transformers
        if not local:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the weights in {source} cannot be read ({reason}); fetch or save them again"
        ) from error
    return module.eval(), set(report["missing_keys"])


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hugging Face's progress bars off for a moment: a local file is read in no time."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
