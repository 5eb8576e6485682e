"""Whatever names, tokens or words of a command are given, a refusal is one line."""

from __future__ import annotations

import contextlib
import io

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import mechprobe as mp
from mechprobe.cli import main
from mechprobe.errors import InputError

odd = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.floats(), st.text(max_size=6),
    st.sampled_from(["0.0", "1.1", "mlp.0", "9.9", "enc 0.0", "0.-1", "mlp.", "0.1.2"]),
)
anything = st.recursive(odd, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
names = st.lists(st.one_of(
    st.sampled_from(["0.0", "1.1", "mlp.0", "9.9", "enc 0.0", "0.-1", "mlp.", "0.1.2", "resid 0"]),
    st.text(max_size=5), st.tuples(st.integers(-2, 3), st.integers(-2, 3)),
), max_size=3)  # fmt: skip
tokens = st.builds(
    lambda n, length, value: torch.full((n, length), value),
    st.integers(0, 3), st.integers(0, 6), st.sampled_from([0, 3, 9, 10, -1, 2**40]),
)
words = st.lists(st.sampled_from([
    "run", "list", "locate", "report", "pretrain", "bench", "selfcheck", "sweep", "--help", "--out",
    "--preset", "tiny", "laptop", "--dry-run", "heuristic-core", "topology", "--seed", "-1", "x",
    "--n-masks", "1e9", "nan", "", "--", "\x00", "--compare", "..", "--set", "behaviours/ioi",
]), max_size=5)  # fmt: skip
fuzz = settings(
    max_examples=60, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def model():
    return mp.load_model({
        "kind": "decoder", "n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 8,
        "n_ctx": 4, "d_vocab": 10,
    })


def refusal(call) -> str:
    """What a call says when it refuses; nothing when it does not."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


@seed(0)
@fuzz
@given(name=anything)
def test_any_name_is_a_site_or_refused(name):
    assert len(refusal(lambda: mp.Site.parse(name)).splitlines()) <= 1


@seed(0)
@fuzz
@given(closed=names, tokens=tokens)
def test_any_sites_and_tokens_run_or_are_refused(model, closed, tokens):
    def call():
        with mp.gates(model, closed=closed, baseline="zero"):
            mp.run_with_cache(model, tokens, ["0.0"])

    assert len(refusal(call).splitlines()) <= 1


@seed(0)
@fuzz
@given(given_words=words)
def test_any_words_after_mechprobe_are_done_or_refused(given_words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given_words = [*given_words, "--dry-run"] if given_words[:1] == ["run"] else given_words
    if given_words[:1] in (["selfcheck"], ["bench"], ["sweep"]):
        given_words = [given_words[0], "--no-such-option"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(given_words)
        except SystemExit as stop:
            status = stop.code
    assert status in (0, 1, 2)
    assert "Traceback" not in said.getvalue()
