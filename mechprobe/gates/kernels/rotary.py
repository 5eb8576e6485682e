"""Rotary positions: queries and keys turned by their positions' angles, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.models.frozen import Turn


def turned(
    x: Float[Tensor, "pair batch pos d_head"],
    turn: Turn,
    read: Int[Tensor, " batch"] | None,
    back: bool = False,
) -> Float[Tensor, "pair batch pos d_head"]:
    """x turned by the angles of its positions (of ``read`` alone, if given), or back."""
    cos, sin = turn.cos, turn.sin
    if read is not None:
        rows = torch.arange(len(read), device=read.device)
        cos, sin = (t.expand(len(read), -1, -1, -1)[rows, :, read].unsqueeze(2) for t in (cos, sin))
    width = cos.shape[-1]
    own, rest = x[..., :width], x[..., width:]
    if turn.adjacent:
        flipped = torch.stack([-own[..., 1::2], own[..., ::2]], -1).flatten(-2)
    else:
        first, second = own.chunk(2, -1)
        flipped = torch.cat([-second, first], -1)
    cos, sin = cos.transpose(0, 1), sin.transpose(0, 1)
    out = own * cos
    out = (out - flipped * sin if back else out + flipped * sin).to(x.dtype)
    return out if not rest.shape[-1] else torch.cat([out, rest], -1)
