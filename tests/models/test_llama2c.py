"""llama2.c checkpoints and tokenizers, against its algorithms written out by hand."""

from __future__ import annotations

import gzip
import lzma
import math
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mechprobe.errors import InputError
from mechprobe.models import (
    HookedDecoderClassifier,
    forward,
    load_llama2c,
    load_model,
    run_with_cache,
    run_with_edits,
    save_model,
    site_grid,
)
from mechprobe.models.llama2c_tokenizer import read_tokenizer

NAMES = (
    "tok", "att_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3", "norm", "cos", "sin"
)  # fmt: skip


def write(path, *, dim=32, hidden=48, layers=2, heads=4, kv=2, vocab=40, ctx=24, tied=True):
    """A checkpoint of random weights, written as llama2.c's export does."""
    generator = np.random.default_rng(0)
    narrow, half = dim // heads * kv, dim // heads // 2
    shapes = [
        (vocab, dim), (layers, dim), (layers, dim, dim), (layers, narrow, dim),
        (layers, narrow, dim), (layers, dim, dim), (layers, dim), (layers, hidden, dim),
        (layers, dim, hidden), (layers, hidden, dim), (dim,), (ctx, half), (ctx, half),
    ]  # fmt: skip
    if not tied:
        shapes.append((vocab, dim))
    header = struct.pack("<7i", dim, hidden, layers, heads, kv, vocab if tied else -vocab, ctx)
    arrays = [0.3 * generator.standard_normal(shape) + ("norm" in name)
              for name, shape in zip((*NAMES, "out"), shapes, strict=False)]  # fmt: skip
    path.write_bytes(header + b"".join(a.astype("<f4").tobytes() for a in arrays))
    return path


def plain_forward(data: bytes, tokens: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits [pos, vocab] of llama2.c's forward: one token after the other, loops over heads."""
    dim, hidden, layers, heads, kv, vocab, ctx = struct.unpack("<7i", data[:28])
    width, tied = dim // heads, vocab > 0
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=28).copy()).double()
    place = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal place
        place += math.prod(shape)
        return numbers[place - math.prod(shape) : place].view(shape)

    w = {"tok": take(abs(vocab), dim), "att_norm": take(layers, dim), "wq": take(layers, dim, dim)}
    w |= {name: take(layers, kv * width, dim) for name in ("wk", "wv")}
    w |= {"wo": take(layers, dim, dim), "ffn_norm": take(layers, dim)}
    w |= {"w1": take(layers, hidden, dim), "w2": take(layers, dim, hidden)}
    w |= {"w3": take(layers, hidden, dim), "norm": take(dim)}
    take(ctx, width)  # angles
    out = w["tok"] if tied else take(abs(vocab), dim)
    assert place == len(numbers)

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x / torch.sqrt((x * x).sum() / dim + 1e-5)

    def turn(x: torch.Tensor, position: int) -> torch.Tensor:
        turned = x.clone()
        for i in range(0, len(x), 2):
            angle = position / 10000 ** (i % width / width)
            cos, sin = math.cos(angle), math.sin(angle)
            turned[i] = x[i] * cos - x[i + 1] * sin
            turned[i + 1] = x[i] * sin + x[i + 1] * cos
        return turned

    keys, values = ([[] for _ in range(layers)] for _ in range(2))
    logits, z = [], {f"{layer}.{head}": [] for layer in range(layers) for head in range(heads)}
    for position, token in enumerate(tokens):
        x = w["tok"][token]
        for layer in range(layers):
            h = norm(x, w["att_norm"][layer])
            q = turn(w["wq"][layer] @ h, position)
            keys[layer].append(turn(w["wk"][layer] @ h, position))
            values[layer].append(w["wv"][layer] @ h)
            mixed = torch.zeros(dim, dtype=torch.float64)
            for head in range(heads):
                mine = slice(head * width, (head + 1) * width)
                group = head // (heads // kv)
                shared = slice(group * width, (group + 1) * width)
                scores = torch.stack([q[mine] @ k[shared] for k in keys[layer]]) / math.sqrt(width)
                share = torch.softmax(scores, 0)
                for weight, v in zip(share, values[layer], strict=True):
                    mixed[mine] += weight * v[shared]
                z[f"{layer}.{head}"].append(mixed[mine].clone())
            x = x + w["wo"][layer] @ mixed
            h = norm(x, w["ffn_norm"][layer])
            x = x + w["w2"][layer] @ (F.silu(w["w1"][layer] @ h) * (w["w3"][layer] @ h))
        logits.append(out @ norm(x, w["norm"]))
    return torch.stack(logits), {site: torch.stack(rows) for site, rows in z.items()}


@pytest.mark.parametrize(
    "settings", [{}, {"tied": False}, {"kv": 4}, {"kv": 1, "layers": 3}, {"heads": 2, "hidden": 7}]
)
def test_it_computes_what_llama2c_computes(settings, tmp_path, make_batch):
    path = write(tmp_path / "model.bin", **settings)
    batch = make_batch(11, 4)
    model = load_llama2c(path)
    logits, values = run_with_cache(model, batch, [s for s in site_grid(model) if s.kind == "head"])
    for row, length in enumerate((11, 4)):
        expected, z = plain_forward(path.read_bytes(), batch.tokens[row, :length].tolist())
        torch.testing.assert_close(logits[row, :length].double(), expected, atol=2e-5, rtol=1e-5)
        for site, value in values.items():
            torch.testing.assert_close(
                value[row, :length].double(), z[str(site)], atol=2e-5, rtol=1e-5
            )
    for site in site_grid(model):
        closed = run_with_edits(model, batch, {site: torch.zeros_like})
        assert (closed - logits)[batch.attention_mask.bool()].abs().max() > 1e-3, site


def test_packed_files_and_the_door_for_everything(tmp_path, make_batch, monkeypatch):
    path = write(tmp_path / "model.bin")
    (tmp_path / "model.bin.xz").write_bytes(lzma.compress(path.read_bytes()))
    (tmp_path / "packed.bin.gz").write_bytes(gzip.compress(path.read_bytes()))
    batch = make_batch(9, 4)
    expected = forward(load_llama2c(path), batch)
    monkeypatch.chdir(tmp_path)
    for name in (path, str(path), "model.bin", "model.bin.xz", tmp_path / "packed.bin.gz"):
        assert torch.equal(forward(load_model(name), batch), expected)
    model = load_model("model.bin", dtype=torch.float64)
    assert model.cfg.dtype == torch.float64
    again = load_model(save_model(model, tmp_path / "kept"))
    assert torch.equal(forward(again, batch), forward(model, batch))
    classifier = load_model("model.bin", labels=("a", "b"))
    assert isinstance(classifier, HookedDecoderClassifier)
    with pytest.raises(InputError, match="unknown setting 'fold_ln'"):
        load_model("model.bin", fold_ln=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-4], r"has \d+ bytes, but its header \(2 layers, d_model 32, vocab"),
        (lambda d: d + b"\0" * 4, "it is cut off or of another kind"),
        (lambda d: d[:20], "is not a llama2.c checkpoint"),
        (lambda d: b"", "is not a llama2.c checkpoint"),
        (lambda d: b"PK\x03\x04" + d, "is not a llama2.c checkpoint"),
        (lambda d: struct.pack("<I", 0x616B3432) + d, "of a later version"),
        (lambda d: struct.pack("<7i", 32, 48, 2, 5, 5, 40, 24) + d[28:], "is not a llama2.c"),
        (lambda d: struct.pack("<7i", 32, 48, 2, 4, 3, 40, 24) + d[28:], "is not a llama2.c"),
    ],
)
def test_what_is_not_a_whole_checkpoint_is_refused(damage, message, tmp_path):
    path = write(tmp_path / "model.bin")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_torn_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no file .*none.bin"):
        load_model(tmp_path / "none.bin")
    packed = lzma.compress(write(tmp_path / "model.bin").read_bytes())
    (tmp_path / "torn.bin.xz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path / "torn.bin.xz")


def tokenizer_bin(words: list[str]) -> bytes:
    """A tokenizer.bin with the bytes and the words, the earlier the better."""
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    data = struct.pack("<i", max(map(len, texts)))
    for i, text in enumerate(texts):
        score = -float(max(0, i - 259))
        data += struct.pack("<fi", score, len(text.encode())) + text.encode()
    return data


def pieces(data: bytes) -> list[tuple[float, bytes]]:
    found, place = [], 4
    while place < len(data):
        score, length = struct.unpack_from("<fi", data, place)
        found.append((score, data[place + 8 : place + 8 + length]))
        place += 8 + length
    return found


def plain_encode(data: bytes, text: str) -> list[int]:
    """llama2.c's encoder: a leading space, then the best-scored neighbours joined, left first."""
    known = pieces(data)
    ids = {piece: i for i, (_, piece) in enumerate(known)}
    row: list[int] = [1]
    for character in f" {text}" if text else "":
        code = character.encode()
        row += [ids[code]] if code in ids else [byte + 3 for byte in code]
    while True:
        best, where = -1e10, None
        for i in range(len(row) - 1):
            joined = ids.get(known[row[i]][1] + known[row[i + 1]][1])
            if joined is not None and known[joined][0] > best:
                best, where = known[joined][0], i
        if where is None:
            return row
        row[where : where + 2] = [ids[known[row[where]][1] + known[row[where + 1]][1]]]


WORDS = [" a", "an", " an", "ana", "na", "ban", " ban", "and", " ", *"abdnx", "é"]


@pytest.mark.parametrize(
    "text", ["", "banana", "band and a  banana", "é ö\n漢", " x", "nananab nab\t", "aaa bbb"]
)
def test_text_becomes_the_tokens_of_llama2c(text):
    data = tokenizer_bin(WORDS)
    tokenizer = read_tokenizer(data)
    ids = tokenizer(text)["input_ids"]
    assert ids == plain_encode(data, text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.bos_token_id == 1
    assert tokenizer.eos_token_id == 2


def test_a_tokenizer_beside_the_model_is_found(tmp_path):
    data = tokenizer_bin(WORDS)
    vocab = 259 + len(WORDS)
    (tmp_path / "models").mkdir()
    (tmp_path / "tokenizers").mkdir()
    path = write(tmp_path / "models" / "model.bin", vocab=vocab)
    assert load_llama2c(path).tokenizer is None
    (tmp_path / "tokenizers" / f"tok{vocab}.bin.xz").write_bytes(lzma.compress(data))
    model = load_llama2c(path)
    assert model.to_tokens("banana").tolist() == [plain_encode(data, "banana")]
    again = load_model(save_model(model, tmp_path / "kept"))
    assert again.to_tokens("banana").tolist() == [plain_encode(data, "banana")]
    small = write(tmp_path / "small.bin", vocab=20)
    with pytest.raises(InputError, match=r"has 274 tokens and small\.bin only 20"):
        load_llama2c(small, tmp_path / "tokenizers" / f"tok{vocab}.bin.xz")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-1], "not a whole llama2.c tokenizer"),
        (lambda d: d[:40], "not a whole llama2.c tokenizer"),
        (lambda d: b"", "tokens 1 and 2 are not <s> and </s>"),
        (lambda d: d[:4] + d[4:17] * 4, "tokens 1 and 2 are not <s> and </s>"),
        (lambda d: d + d[4:17], "holds a token twice"),
    ],
)
def test_a_damaged_tokenizer_is_refused(damage, message):
    with pytest.raises(InputError, match=message):
        read_tokenizer(damage(tokenizer_bin(WORDS)), "tok.bin")


@pytest.fixture(scope="module")
def stories(data_dir):
    path = data_dir / "models" / "stories260K.bin.xz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def test_the_real_model_writes_stories(stories, tmp_path):
    model = load_model(stories)
    prompt = model.to_tokens("Once upon a time")
    written = model.generate(prompt, max_new_tokens=60, do_sample=False, verbose=False).clone()
    text = model.tokenizer.decode(written[0], skip_special_tokens=True)
    assert text.startswith("Once upon a time, there was a little girl named Lily. She loved to")
    assert model(written, return_type="loss") < 0.6
    tale = "One day, Tom went to the park with his mom. He saw a big dog."
    law = "The committee's fiduciary obligations were discharged."
    assert model(tale, return_type="loss") < 1.0
    assert model(law, return_type="loss") > 4.0
    again = load_model(save_model(model, tmp_path / "m"))
    assert torch.equal(again(tale), model(tale))


def test_the_real_model_computes_what_llama2c_computes(stories):
    model = load_model(stories)
    tokens = model.to_tokens("Once upon a time")
    expected, _ = plain_forward(lzma.decompress(stories.read_bytes()), tokens[0].tolist())
    torch.testing.assert_close(model(tokens)[0].double(), expected, atol=2e-5, rtol=1e-5)


def test_the_real_tokenizer_reads_real_text(data_dir):
    path = data_dir / "tokenizers" / "tok512.bin.xz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    data = lzma.decompress(path.read_bytes())
    tokenizer = read_tokenizer(data)
    with lzma.open(data_dir / "text" / "onestop_ele.txt.xz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file.read(40_000).splitlines() if line.strip()][:30]
    for line in [*lines, "  two  spaces ", "tabs\tand\nlines", "Zoë 漢字 …"]:
        ids = tokenizer(line)["input_ids"]
        assert ids == plain_encode(data, line), line
        assert tokenizer.decode(ids, skip_special_tokens=True) == line
