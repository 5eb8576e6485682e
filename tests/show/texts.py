"""Models whose vocabulary holds what must be shown and never run."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PWN = "document.title='pwned'"
EVIL = (
    f"<script>{PWN}</script>", "</script>", f"<img/src=x/onerror={PWN}>", "<!--", "&lt;b&gt;",
    "שלום", "עולם", "🙂", "cat", "sat",
)
TEXT = " ".join(EVIL)


def tokenizer():
    """One token a word between spaces; the words are those above."""
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", *EVIL))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


SIZES = {"n_layers": 2, "n_heads": 3, "d_model": 24, "n_ctx": 32}


def shaken(model, seed=0):
    """The same model with weights large enough that everything shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def decoder():
    """A causal language model."""
    from mechprobe.models import build_decoder

    return shaken(build_decoder(tokenizer=tokenizer(), **SIZES))


def encoder():
    """A masked language model."""
    from mechprobe.models import build_encoder

    return shaken(build_encoder(tokenizer=tokenizer(), **SIZES))


def classifier():
    """A classifier of texts and pairs."""
    from mechprobe.models import build_classifier

    return shaken(build_classifier(("yes", "no"), tokenizer(), **SIZES))


def encoder_decoder():
    """A T5-shaped model."""
    from mechprobe.models import build_encoder_decoder

    return shaken(build_encoder_decoder(
        tokenizer=tokenizer(), n_layers=2, n_heads=3, d_model=24, d_head=8, d_mlp=32
    ))
