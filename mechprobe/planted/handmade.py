"""Planted circuits of our own: the traps a localiser meets, each with the heads that matter.

Built from explicit weights, so the truth is known and nothing is trained or downloaded. Tokens are
small numbers; the answer is scored at the last position; counterfactuals change what the true heads
carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mechprobe.planted.cases import Case
from mechprobe.planted.wiring import Gate, Head, Wiring, look_at, look_back, look_for_match
from mechprobe.sites import SiteGrid
from mechprobe.tasks.prompts import PromptTask

N = 128  # examples a case
CONTENT = 8  # tokens 0..7 are content, later ones are marks


def all_cases(seed: int = 0) -> list[Case]:
    """Every hand-made case, two for models that serve two tasks."""
    return [case for build in HANDMADE.values() for case in build(seed)]


def induction(seed: int = 0, *, copies: bool = False) -> list[Case]:
    """A previous-token head feeds an induction head; with ``copies`` both have inert twins.

    A twin attends and reads as the true head does and writes where nothing reads.
    """
    rng = np.random.default_rng([seed, 1])
    length, vocab = 8, 12
    eye = np.eye(vocab)
    previous = Head(*look_back(length), ("token", eye), ("previous", eye))
    follow = Head(*look_for_match("token", "previous", vocab), ("token", eye), ("answer", eye))
    heads = {(0, 0): previous, (1, 1): follow}
    if copies:
        heads[0, 1] = Head(previous.query, previous.key, previous.value, ("unread", eye))
        heads[1, 0] = Head(follow.query, follow.key, follow.value, ("unread", eye))
    wiring = Wiring(
        vocab, length, {"previous": vocab, "answer": vocab, "unread": vocab}, 2, 2, heads,
        output=_copied("answer", vocab),
    )

    def prompts() -> tuple[np.ndarray, np.ndarray]:
        tokens = np.stack([rng.permutation(vocab)[:length] for _ in range(N)])
        at = rng.integers(1, length - 2, N)  # the last token stood here before
        rows = np.arange(N)
        tokens[rows, -1] = tokens[rows, at]
        return tokens, tokens[rows, at + 1]

    clean, answers = prompts()
    corrupt, others = prompts()
    while (same := others == answers).any():
        fresh, found = prompts()
        corrupt[same], others[same] = fresh[same], found[same]
    name = "inert copies" if copies else "induction pair"
    return [_case(name, "main", wiring, clean, corrupt, answers, [["0.0", "1.1"]])]


def or_gate(seed: int = 0) -> list[Case]:
    """Two heads carry the same answer: either is enough, and closing one shows nothing."""
    rng = np.random.default_rng([seed, 2])
    length, vocab = 4, CONTENT + 1
    silent = np.diag([*[1.0] * CONTENT, 0.0])  # the last token says nothing
    heads = {
        (0, 0): Head(*look_at(1, length), ("token", silent), ("answer", np.eye(vocab))),
        (0, 2): Head(*look_back(length, 2), ("token", silent), ("answer", np.eye(vocab))),
    }
    wiring = Wiring(vocab, length, {"answer": vocab}, 1, 3, heads, _copied("answer", vocab))
    clean = rng.integers(0, CONTENT, (N, length))
    corrupt = rng.integers(0, CONTENT, (N, length))
    corrupt[:, 1] = CONTENT
    return [_case("or gate", "main", wiring, clean, corrupt, clean[:, 1], [["0.0"], ["0.2"]])]


def decoy(seed: int = 0) -> list[Case]:
    """One head carries the answer where it is read, another where nothing reads."""
    rng = np.random.default_rng([seed, 3])
    length, vocab = 4, CONTENT
    eye = np.eye(vocab)
    heads = {
        (0, 0): Head(*look_at(1, length), ("token", eye), ("unread", eye)),
        (0, 1): Head(*look_at(1, length), ("token", eye), ("answer", eye)),
        (1, 0): Head(*look_at(2, length), ("token", eye), ("unread", eye)),
    }
    wiring = Wiring(
        vocab, length, {"answer": vocab, "unread": vocab}, 2, 2, heads, _copied("answer", vocab)
    )
    clean = rng.integers(0, CONTENT, (N, length))
    corrupt = (clean + rng.integers(1, CONTENT, (N, length))) % CONTENT
    return [_case("decoy", "main", wiring, clean, corrupt, clean[:, 1], [["0.1"]])]


def constant(seed: int = 0) -> list[Case]:
    """A head that always writes the same: fatal to zero, harmless to replace by anything else."""
    rng = np.random.default_rng([seed, 4])
    length, vocab = 4, CONTENT + 1
    eye = np.eye(vocab)
    heads = {
        (0, 1): Head(*look_at(1, length), ("token", eye), ("answer", eye)),
        (1, 0): Head(*look_at(0, length), ("one", np.ones((1, 1))), ("default", -np.ones((1, 1)))),
    }
    default = {(space, 0): {CONTENT: 20.0} for space in ("one", "default")}
    output = {**_copied("answer", vocab), **default}
    wiring = Wiring(vocab, length, {"answer": vocab, "default": 1}, 2, 2, heads, output)
    clean = rng.integers(0, CONTENT, (N, length))
    corrupt = (clean + rng.integers(1, CONTENT, (N, length))) % CONTENT
    return [_case("constant head", "main", wiring, clean, corrupt, clean[:, 1], [["0.1"]])]


def selector(seed: int = 0) -> list[Case]:
    """The first token picks the task; one head reads it, and each task has a head of its own.

    Two cases, one a task: the shared head and the task's own are needed in each.
    """
    rng = np.random.default_rng([seed, 5])
    length, vocab = 5, CONTENT + 2
    eye, tasks = np.eye(vocab), np.zeros((vocab, 2))
    tasks[CONTENT, 0] = tasks[CONTENT + 1, 1] = 1
    heads = {
        (0, 0): Head(*look_at(1, length), ("token", eye), ("first", eye)),
        (0, 1): Head(*look_at(0, length), ("token", tasks), ("task", np.eye(2))),
        (0, 2): Head(*look_at(2, length), ("token", eye), ("second", eye)),
    }
    gates = [
        Gate({(slot, token): 1.0, ("task", task): 1.0}, -1.0, {("answer", token): 1.0})
        for task, slot in enumerate(("first", "second")) for token in range(CONTENT)
    ]
    spaces = {"first": vocab, "second": vocab, "task": 2, "answer": vocab}
    wiring = Wiring(
        vocab, length, spaces, 1, 3, heads, _copied("answer", vocab), gates={0: gates}
    )
    cases = []
    for task, own in ((0, "0.0"), (1, "0.2")):
        clean = rng.integers(0, CONTENT, (N, length))
        clean[:, 2] = (clean[:, 1] + rng.integers(1, CONTENT, N)) % CONTENT
        corrupt = (clean + rng.integers(1, CONTENT, (N, length))) % CONTENT
        other = corrupt[:, 2 - task]  # what the other task says of the corrupt run
        clash = other == clean[:, 1 + task]
        corrupt[clash, 2 - task] = (other[clash] + 1) % CONTENT
        clean[:, 0], corrupt[:, 0] = CONTENT + task, CONTENT + 1 - task
        cases.append(_case(
            "shared selector", f"task {task + 1}", wiring, clean, corrupt, clean[:, 1 + task],
            [["0.1", own]],
        ))
    return cases


def core_and_extra(seed: int = 0) -> list[Case]:
    """A core head decides in domain; out of domain an extra head must veto it.

    In domain the veto never occurs, so only the core matters, though closing the extra head to zero
    looks fatal there: its usual output says "no veto".
    """
    rng = np.random.default_rng([seed, 6])
    length, vocab = 4, 6
    no, yes, with_a, without_a, plain, veto = range(6)
    carries_a, no_veto = np.zeros((vocab, 1)), np.zeros((vocab, 1))
    carries_a[with_a], no_veto[plain] = 1, 1
    one = np.ones((1, 1))
    heads = {
        (0, 1): Head(*look_at(1, length), ("token", carries_a), ("feature", one)),
        (1, 2): Head(*look_at(2, length), ("token", no_veto), ("clear", one)),
    }
    gates = {1: [Gate({("feature", 0): 1.0, ("clear", 0): 1.0}, -1.0, {("answer", 0): 1.0})]}
    output = {("answer", 0): {yes: 20.0}, ("one", 0): {no: 10.0}}
    wiring = Wiring(
        vocab, length, {"feature": 1, "clear": 1, "answer": 1}, 2, 3, heads, output, gates=gates
    )
    cases = []
    for name, circuit in (("in domain", ["0.1"]), ("out of domain", ["0.1", "1.2"])):
        feature = rng.integers(0, 2, N)
        vetoed = rng.integers(0, 2, N) if name == "out of domain" else np.zeros(N, dtype=int)
        flipped = 1 - vetoed if name == "out of domain" else vetoed

        def tokens(feature: np.ndarray, vetoed: np.ndarray) -> np.ndarray:
            return np.stack([
                np.full(N, plain), np.where(feature, with_a, without_a),
                np.where(vetoed, veto, plain), np.full(N, plain),
            ], axis=1)

        answers = np.where((feature == 1) & (vetoed == 0), yes, no)
        cases.append(_case(
            "core and extra", name, wiring, tokens(feature, vetoed), tokens(1 - feature, flipped),
            answers, [circuit],
        ))
    return cases


def inert_copies(seed: int = 0) -> list[Case]:
    """The induction pair with an inert twin of each of its heads."""
    return induction(seed, copies=True)


HANDMADE: dict[str, Callable[[int], list[Case]]] = {
    "induction pair": induction,
    "or gate": or_gate,
    "decoy": decoy,
    "constant head": constant,
    "inert copies": inert_copies,
    "shared selector": selector,
    "core and extra": core_and_extra,
}
"""The hand-made models by name."""


def _copied(space: str, width: int) -> Mapping[tuple[str, int], Mapping[int, float]]:
    """Logits that read a space as one-hot tokens."""
    return {(space, token): {token: 10.0} for token in range(width)}


def _case(
    name: str, of: str, wiring: Wiring, clean: np.ndarray, corrupt: np.ndarray,
    answers: np.ndarray, circuits: Sequence[Sequence[str]],
) -> Case:
    truth: dict[str, Any] = {"sets": {of: {"minimal_circuits_paired": circuits}}}
    task = PromptTask(clean, corrupt, answers, metric="accuracy", name=f"{name}, {of}").encode()
    grid = SiteGrid(wiring.n_layers, wiring.n_heads)
    for site in {site for circuit in circuits for site in circuit}:
        grid.index(site)
    return Case(name, of, wiring.build(), task, truth)
