"""What a model reads of a text, and each token as a person would write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from mechprobe.errors import InputError
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.given import check_model
from mechprobe.tasks.batches import Batch, Seq2SeqBatch
from mechprobe.tasks.behaviour import take_rows
from mechprobe.tasks.seq2seq import seq2seq_batch

Text: TypeAlias = str | tuple[str, str] | list[str] | Batch
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Reading:
    """One example without padding.

    Attributes:
        batch: a batch of this example only.
        words: its tokens as text; of an encoder-decoder those the encoder reads.
        text: what is read, for titles.
        decoder_words: those the decoder reads, the start token first; empty for other models.
        unknown: words of a text given as text that the tokenizer has no token for.
    """

    batch: Batch
    words: tuple[str, ...]
    text: str
    decoder_words: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def read_text(model: HookedModel, text: Text, example: int = 0) -> Reading:
    """What the model reads of a text, a pair of texts, or one example of a batch.

    Args:
        text: a text; two texts for a sentence-pair model, or for an encoder-decoder (what the
            encoder reads, and what the decoder has written); or a batch.
        example: which row of a batch.

    Raises:
        InputError: no tokenizer, a pair where the model reads one text, no text at all, a text that
            is too long for the model, or a row that is not there.
    """
    check_model(model)
    several = isinstance(text, tuple | list) and all(isinstance(one, str) for one in text)
    if not (several or isinstance(text, str | Batch)):
        raise InputError(
            f"a {type(text).__name__} is no text; give a text, a pair of texts, or a batch such as "
            "task.encode(model.tokenizer).inputs"
        )
    if isinstance(text, Batch):
        if not 0 <= example < len(text):
            raise InputError(
                f"example {example} of a batch of {len(text)}; give 0 to {len(text) - 1}"
            )
        batch = take_rows(text.to("cpu"), torch.tensor([example]))
    else:
        batch = _encoded(model, (text,) if isinstance(text, str) else tuple(text))
    batch = _without_padding(batch)
    _check_length(model, batch)
    tokenizer = getattr(model, "tokenizer", None)
    ids = batch.tokens[0].tolist()
    decoder = batch.decoder_tokens[0].tolist() if isinstance(batch, Seq2SeqBatch) else []
    title = _whole(ids, tokenizer) + (f" → {_whole(decoder, tokenizer)}" if decoder else "")
    return Reading(
        batch, token_words(ids, tokenizer), title, token_words(decoder, tokenizer),
        () if isinstance(text, Batch) else _unknown_words(text, tokenizer),
    )


def _whole(ids: Sequence[int], tokenizer: Any) -> str:
    if tokenizer is None:
        return " ".join(map(str, ids))
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).strip()


def _unknown_words(text: str | Sequence[str], tokenizer: Any) -> tuple[str, ...]:
    """The words between spaces that the tokenizer reads as its unknown token, each once."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return ()
    words = (text if isinstance(text, str) else " ".join(text)).split()
    found = [word for word in dict.fromkeys(words) if tokenizer.unk_token not in word]
    if not found:
        return ()
    rows = tokenizer(found, add_special_tokens=False)["input_ids"]
    return tuple(word for word, ids in zip(found, rows, strict=True) if unknown in ids)


def is_encoder_decoder(model: HookedModel) -> bool:
    """Whether the model has an encoder and a decoder."""
    return site_grid(model).stacks != ("",)


def reads_pairs(model: HookedModel) -> bool:
    """Whether the model may be given two texts: classifiers, encoders and encoder-decoders."""
    return is_encoder_decoder(model) or hasattr(model, "labels") or not causal(model)


def causal(model: HookedModel) -> bool:
    """Whether a model of one stack attends to earlier tokens only."""
    return not is_encoder_decoder(model) and model.cfg.attention_dir == "causal"


def token_words(ids: Sequence[int], tokenizer: Any) -> tuple[str, ...]:
    """Each token as text; the ids themselves when there is no tokenizer.

    A character that byte-level tokens share (an emoji, say) is written on each of them with its
    part: ``🙂 1/2``, ``🙂 2/2``.
    """
    if tokenizer is None:
        return tuple(str(i) for i in ids)
    words: list[str] = []
    while len(words) < len(ids):
        rest = ids[len(words) :]
        word = _word(rest[:1], tokenizer)
        if _UNKNOWN not in word:
            words.append(word)
            continue
        size, whole = next(
            ((n, joint) for n in range(2, min(len(rest), 6) + 1)
             if _UNKNOWN not in (joint := _word(rest[:n], tokenizer))),
            (1, word),
        )
        words += [whole] if size == 1 else [f"{whole} {i + 1}/{size}" for i in range(size)]
    return tuple(words)


def _word(ids: Sequence[int], tokenizer: Any) -> str:
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    if any("\N{LOWER ONE EIGHTH BLOCK}" in piece for piece in pieces):  # SentencePiece's space
        return "".join(pieces).replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    decoded = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return decoded if decoded else "".join(pieces)


def _encoded(model: HookedModel, texts: tuple[str, ...]) -> Batch:
    tokenizer: Any = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError("this model has no tokenizer; give a batch, or load it with tokenizer=...")
    if len(texts) not in (1, 2) or not texts[0]:
        raise InputError(f"{len(texts)} texts, the first of them empty; give one text or a pair"
                         if texts else "no text was given; give one text or a pair")
    if is_encoder_decoder(model):
        source = list(tokenizer(texts[0])["input_ids"])
        target = list(tokenizer(texts[1])["input_ids"]) if texts[1:] and texts[1] else []
        return seq2seq_batch([source], [target], start=model.cfg.decoder_start_token_id or 0)
    if len(texts) == 2 and not reads_pairs(model):
        raise InputError("this decoder reads one text, and a pair was given; give one text")
    out = tokenizer(*texts, return_token_type_ids=True)
    ids, segments = list(out["input_ids"]), list(out["token_type_ids"])
    bos = tokenizer.bos_token_id
    if causal(model) and not hasattr(model, "labels") and bos is not None and ids[:1] != [bos]:
        ids, segments = [bos, *ids], [0, *segments]
    if not ids:
        raise InputError(f"the tokenizer made no token of {texts[0]!r}; give another text")
    tokens, zero = torch.tensor([ids]), torch.zeros(1, dtype=torch.long)
    return Batch(tokens, torch.tensor([segments]), torch.ones_like(tokens), zero, zero)


def _without_padding(batch: Batch) -> Batch:
    """One row cut to its real tokens, which stand first."""
    n = int(batch.attention_mask.sum())
    cut = {
        "tokens": batch.tokens[:, :n], "segments": batch.segments[:, :n],
        "attention_mask": batch.attention_mask[:, :n],
        "labels": batch.labels, "index": torch.zeros_like(batch.index),
    }
    if not isinstance(batch, Seq2SeqBatch):
        return Batch(**cut)
    m = int(batch.decoder_mask.sum())
    return Seq2SeqBatch(
        **cut, decoder_tokens=batch.decoder_tokens[:, :m], decoder_mask=batch.decoder_mask[:, :m]
    )


def _check_length(model: HookedModel, batch: Batch) -> None:
    n, limit = batch.tokens.shape[1], model.cfg.n_ctx
    if model.cfg.positional_embedding_type != "relative_positional_bias" and n > limit:
        raise InputError(f"the text has {n} tokens, the model reads at most {limit}; shorten it")
