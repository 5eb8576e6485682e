"""The exact network for trees as a hooked model: its attention and its messages are known.

``mechprobe.trees.construction`` written as blocks that read and write a residual stream: attention
by position bits fetches the sibling's upward message into the slot s, and a bilinear update, in the
place of an MLP, combines it with the own one and empties the slot. Every tool that takes a
``HookedFixedLengthEncoder`` takes this, so that measures of attention, probes and gates can be held
to what is true (after the existence argument of Garnier-Brun et al. 2024, arXiv 2408.15138).
"""

from __future__ import annotations

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from mechprobe.errors import InputError
from mechprobe.models.build import make_config
from mechprobe.models.fixed_length import READOUTS, HookedFixedLengthEncoder
from mechprobe.trees.construction import (
    State,
    attention_scores,
    initial_state,
    read_leaves,
    read_root,
    split_state,
    state_width,
    update,
)
from mechprobe.trees.grammar import Grammar


class HookedTreeConstruction(HookedFixedLengthEncoder):
    """Belief propagation in as many layers as the tree has levels, with hooks at the usual places.

    Tokens are symbols 0 .. q - 1, and q for a masked leaf. Logits are log posteriors: of the root
    ("flat") or of each leaf given all others ("position"). One head a layer, whose z is the
    sibling block's upward message.

    Raises:
        InputError: the grammar is not binary, or k or the read-out does not exist.
    """

    standard_blocks = False

    def __init__(self, grammar: Grammar, readout: str = "position", k: int = 0) -> None:
        HookedRootModule.__init__(self)
        grammar.check_level(k)
        if grammar.arity != 2 or readout not in READOUTS:
            raise InputError(
                f"arity {grammar.arity} and readout {readout!r}; the construction is for binary "
                f"trees, readout one of {', '.join(READOUTS)}"
            )
        q, depth = grammar.q, grammar.depth
        width = state_width(q, depth)
        self.grammar, self.k = grammar, k
        self.readout, self.norm, self.tokenizer = readout, "none", None
        self.cfg = make_config(
            n_layers=depth, n_heads=1, d_model=width, n_ctx=2**depth, d_vocab=q + 1,
            d_vocab_out=q, d_mlp=width, act_fn="relu", dtype=torch.float64,
            attention_dir="bidirectional", normalization_type="LN",
        )  # fmt: skip
        self.cfg.d_head = q
        self.rules = nn.Parameter(grammar.transition.detach().clone(), requires_grad=False)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(_Block(grammar, h, k) for h in range(1, depth + 1))
        self.setup()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        one_zero_attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch *pos output"]:
        """Log posteriors of the root [batch, output], or of each leaf [batch, pos, output].

        Raises:
            InputError: sequences of another length, or unknown symbols.
        """
        if tokens.shape[1] != self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {tokens.shape[1]} tokens; this model reads exactly {self.cfg.n_ctx}"
            )
        masked = tokens == self.grammar.q
        start = initial_state(self.grammar, tokens.masked_fill(masked, 0), mask=masked)
        resid = self.hook_embed(start)
        for block in self.blocks:
            resid = block(resid)
        read = read_root if self.readout == "flat" else read_leaves
        found = read(self.grammar, resid)
        tiny = torch.finfo(found.dtype).tiny
        return (found / found.sum(-1, keepdim=True)).clamp_min(tiny).log()


class _Attention(nn.Module):
    """Attention by position bits to the sibling block; its value is the upward message."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_v, self.hook_z = HookPoint(), HookPoint()

    def forward(self, state: State) -> Float[Tensor, "batch pos q"]:
        scores = attention_scores(state.bits[0], self.height)
        scores = self.hook_attn_scores(repeat(scores, "q k -> b 1 q k", b=len(state.u)))
        pattern = self.hook_pattern(scores.softmax(-1))
        values = self.hook_v(state.u[:, :, None])
        return self.hook_z(torch.einsum("bhqk,bkhm->bqhm", pattern, values))[:, :, 0]


class _Block(nn.Module):
    """One layer: the sibling's message into the slot, then the update of u and R."""

    def __init__(self, grammar: Grammar, height: int, k: int) -> None:
        super().__init__()
        self.grammar, self.height, self.k = grammar, height, k
        self.attn = _Attention(height)
        for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
            setattr(self, f"hook_{name}", HookPoint())

    def forward(self, resid: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos width"]:
        part = self._modules
        q = self.grammar.q
        resid = _at(part, "hook_resid_pre", resid)
        slot = self.attn(split_state(resid, q))
        written = torch.zeros_like(resid)
        written[..., q : 2 * q] = slot
        resid = _at(part, "hook_resid_mid", resid + _at(part, "hook_attn_out", written))
        state: State = split_state(resid, q)
        u, r = update(self.grammar, state, self.height, self.k)
        new = torch.cat([u, torch.zeros_like(u), r.flatten(2), state.bits], dim=-1)
        return _at(part, "hook_resid_post", resid + _at(part, "hook_mlp_out", new - resid))


def _at(parts: dict[str, nn.Module | None], name: str, value: Tensor) -> Tensor:
    """A value as it leaves a hook point."""
    point = parts[name]
    assert point is not None
    return point(value)
