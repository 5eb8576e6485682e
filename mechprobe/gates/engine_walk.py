"""K gate vectors through the stages of a frozen model, depth first.

Gate vectors that agree so far share one stream, and part where they first differ. Going deep before
going wide keeps what one path needs for its way back, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mechprobe.gates.engine_return import Return, repeated, through_norm
from mechprobe.gates.engine_rows import rows_of
from mechprobe.gates.engine_stage import (
    Computed,
    Entry,
    GatedStage,
    Passed,
    Stands,
    State,
    normed,
)
from mechprobe.gates.kernels.norms import Saved
from mechprobe.models.frozen import Frozen, Norm, Start

Leaf = Callable[[list[int], Tensor], Tensor | None]


@dataclass(frozen=True)
class Handover:
    """Where the encoder's normed output becomes memory and the decoder's stream begins."""

    norm: Norm | None


@dataclass
class Walk:
    """One batch's way through the stages.

    Attributes:
        stages: of all stacks in order, with a ``Handover`` between encoder and decoder.
        cut: the stage from which on only the read-out's positions go on (past the end: none).
        stands: stand-ins of each layer; ``stands_at`` the same where only those positions are left.
        gates: [k, site] in the model's precision.
        wanted: [k, site], the gates whose gradient is asked for.
        leaf: takes members and logits [member, batch, ...] and gives the gradient of the logits,
            or None.
        at_once: gate vectors that may run stacked.
        first: what the first stage computed for every unit, when it is known.
        each: whether examples' gradients of gates are kept apart.
        recompute: keep each stage's input alone, and compute the stage again on the way back.
    """

    frozen: Frozen
    stages: Sequence[GatedStage | Handover]
    cut: int
    start: Start
    stands: Stands
    stands_at: Stands
    gates: Tensor
    wanted: Tensor
    leaf: Leaf
    at_once: int = 1
    first: Computed | None = None
    each: bool = False
    recompute: bool = False
    found: Tensor = field(init=False)
    tape: list[tuple[int, Entry | Passed | Saved | None]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        k, site = self.gates.shape
        rows = len(self.start.streams[0]) if self.each else 1
        self.found = self.gates.new_zeros(k, rows, site)
        self.rows = rows_of(self.gates)
        self.asked = self.wanted.cpu().numpy()
        self.active = (self.rows.host != 0) | self.asked
        self.starts_at = np.full(len(self.rows), len(self.stages))
        for i in reversed(range(len(self.stages))):
            stage = self.stages[i]
            if isinstance(stage, GatedStage):
                for c in stage.own:
                    self.starts_at[self.asked[:, c].any(1)] = i

    def run(self) -> Tensor:
        """Walk every gate vector; returns d (sum of what the leaves gave) / d gates.

        [k, batch, site] where ``each`` example's is kept apart, else [k, 1, site].
        """
        self._down(0, State(self.start.streams[0]), list(range(len(self.gates))), 1)
        return self.found.mul_(self.wanted.unsqueeze(1))

    def _down(self, i: int, state: State, members: list[int], copies: int) -> None:
        """From stage i to the end and back, for vectors that share a stream or run stacked."""
        depth = len(self.tape)
        while i < len(self.stages):
            stage = self.stages[i]
            if isinstance(stage, Handover):
                state = self._hand_over(i, stage, state, copies)
            else:
                groups = self._groups(stage, members, copies)
                if len(groups) > 1:
                    self._part(i, stage, state, members, groups)
                    break
                state, members, copies = self._go_on(i, stage, state, members, copies, groups[0])
            i += 1
        else:
            for some, grad in self._end(state, members, copies):
                self._up(some, grad)
        del self.tape[depth:]

    def _hand_over(self, i: int, handover: Handover, state: State, copies: int) -> State:
        memory, saved = normed(handover.norm, state.x)
        self.tape.append((i, saved))
        return State(self.start.streams[1].repeat(copies, 1, 1), memory)

    def _part(
        self, i: int, stage: GatedStage, state: State, members: list[int],
        groups: list[list[list[int]]],
    ) -> None:
        """Each group goes its own way from stage i on, which is computed once for all of them."""
        keep = int(self.starts_at[members].min()) < i
        computed = self._compute(i, stage, state, self._ran(members, 1), keep)
        for group in groups:
            self._down(i + 1, *self._apply(i, stage, computed, group))
            self.tape.pop()

    def _go_on(
        self, i: int, stage: GatedStage, state: State, members: list[int], copies: int,
        group: list[list[int]],
    ) -> tuple[State, list[int], int]:
        """All of them go on together; what the way back needs is kept, or can be made again."""
        ran, goal = self._ran(members, copies), int(self.starts_at[members].min())
        known = i == 0 and self.first is not None
        again = self.recompute and goal <= i < len(self.stages) - 1 and not known
        computed = self._compute(i, stage, state, ran, goal < i and not again)
        after = self._apply(i, stage, computed, group)
        if again:
            _, entry = self.tape.pop()
            assert isinstance(entry, Entry)
            passed = Passed(stage, state, ran, entry.gates, entry.active, computed.cut)
            self.tape.append((i, passed))
        return after

    def _ran(self, members: list[int], copies: int) -> np.ndarray:
        """What is run for members that share a stream, or for each of those stacked."""
        active = self.active[members]
        return active if copies > 1 else active.any(0, keepdims=True)

    def _compute(
        self, i: int, stage: GatedStage, state: State, ran: np.ndarray, keep: bool
    ) -> Computed:
        if i == 0 and self.first is not None:
            return self.first
        return stage.compute(state, ran, self.start, i == self.cut, keep)

    def _apply(
        self, i: int, stage: GatedStage, computed: Computed, group: list[list[int]]
    ) -> tuple[State, list[int], int]:
        """The stream after stage i, whose members it is and how many run stacked in it."""
        part = [m for same in group for m in same]
        shown = part if len(group) > 1 else part[:1]
        rows, open_ = self.rows.take(shown), self.active[part]
        open_ = open_.any(0, keepdims=True) if len(group) == 1 else open_
        after, entry = stage.apply(computed, rows, open_, self.start, self._stands_of(i))
        back = bool((self.starts_at[part] <= i).any())
        self.tape.append((i, entry if back else None))
        return after, part, len(group)

    def _stands_of(self, i: int) -> Stands:
        return self.stands_at if i >= self.cut else self.stands

    def _groups(
        self, stage: GatedStage, members: list[int], copies: int
    ) -> list[list[list[int]]]:
        """Members by their gates here, [run][stacked][member]; those stacked already stay so.

        Those with equal gates go on sharing a stream; the others run stacked, ``at_once`` of them.
        """
        if copies > 1:
            return [[[member] for member in members]]
        if not stage.own or len(members) == 1:
            return [[members]]
        same: dict[bytes, list[int]] = {}
        for member in members:
            own = b"".join(self.rows.host[member, c].tobytes() for c in stage.own)
            same.setdefault(own, []).append(member)
        if self.at_once == 1 or len(same) == 1:
            return [[group] for group in same.values()]
        shared = [[group] for group in same.values() if len(group) > 1]
        single = [group for group in same.values() if len(group) == 1]
        stacks = [single[j : j + self.at_once] for j in range(0, len(single), self.at_once)]
        return [*shared, *stacks]

    def _end(
        self, state: State, members: list[int], copies: int
    ) -> list[tuple[list[int], Tensor]]:
        """The leaf of the members' logits; their gradients of the last stream, if they have any."""
        norm = self.frozen.stacks[-1].norm
        x, saved = normed(norm, state.x)
        if not self.asked[members].any():
            logits = self.frozen.read_out(x)
            self.leaf(members, _by_member(logits, copies, len(members)))
            return []
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.frozen.read_out(x)
        given = self.leaf(members, _by_member(logits, copies, len(members)).detach())
        if given is None:
            return []
        if copies == 1 and len(members) > 1:  # equal gate vectors, each with a loss of its own
            found = []
            for member, own in zip(members, given, strict=True):
                back = own.reshape_as(logits)
                (grad,) = torch.autograd.grad(logits, x, back, retain_graph=True)
                found.append(([member], through_norm(norm, saved, grad)))
            return found
        (grad,) = torch.autograd.grad(logits, x, given.reshape_as(logits))
        return [(members, through_norm(norm, saved, grad))]

    def _up(self, members: list[int], grad: Tensor) -> None:
        """Back through the tape with the gradient of the last stream [member x batch, ...]."""
        goal, n = int(self.starts_at[members].min()), len(members)
        wanted = self.asked[members]
        memory: Tensor | None = None
        for i, entry in reversed(self.tape):
            if i < goal:
                break
            stage = self.stages[i]
            if isinstance(stage, Handover):
                if memory is None:
                    break
                grad, memory = memory, None
                if stage.norm is not None:
                    own = cast(Saved, entry)
                    saved = repeated(own, n * len(self.start.streams[0]) // len(own[0]))
                    grad = through_norm(stage.norm, saved, grad)
                continue
            stands = self._stands_of(i)
            if isinstance(entry, Passed):
                entry = entry.again(self.start, stands, keep=i > goal)
            assert isinstance(entry, Entry)
            got, into, memory = Return(
                stage, entry, wanted, stands, self.start, grad, memory, i > goal, self.each
            ).run()
            self.found[members] += got
            if into is None:
                break
            grad = into


def _by_member(logits: Tensor, copies: int, n: int) -> Tensor:
    """[copies x batch, ...] as [member, batch, ...]."""
    split = logits.unflatten(0, (copies, -1))
    return split if copies == n else split.expand(n, *split.shape[1:])
