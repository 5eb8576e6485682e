"""The topology metric as a loss: pull the vectors of a stream towards some tree while training.

Li, Yin and Lin 2023: L = L_CE + lambda L_probe at one submodule, where L_probe is the mean over
tokens of (y nu_i - y g(nu)_i)^2, and y is 1 for acceptable sentences and 0 for others.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechprobe.errors import InputError
from mechprobe.probes.pseudo_labels import LABELLINGS
from mechprobe.probes.structural import squared_norms
from mechprobe.probes.topology import profile_errors


class TopologyRegulariser(nn.Module):
    """L_probe at one stream, with a probe that is frozen or trained beside the model.

    Args:
        b: the probe's map [d, r], from a trained X_ssp probe of that stream.
        trained: whether B moves with the model.
        labels: "exact" or "greedy" pseudo-labels.
        pulled: label of the sentences that are pulled; None pulls all of them.
        special: token ids that are no words (padding is left out by the mask).
        reverse: pull towards the labels read backwards, as X_essp does: a pull of the same kind
            without a tree of the sentence, the null of what the regulariser does.

    Raises:
        InputError: a map that is no matrix, or an unknown kind of labels.
    """

    def __init__(
        self,
        b: Tensor,
        *,
        trained: bool = False,
        labels: str = "exact",
        pulled: int | None = 1,
        special: Collection[int] = (),
        reverse: bool = False,
    ) -> None:
        super().__init__()
        if b.dim() != 2:
            raise InputError(f"a probe's map is [d, r]; got shape {list(b.shape)}")
        if labels not in LABELLINGS:
            raise InputError(f"labels {labels!r} are unknown; expected {' or '.join(LABELLINGS)}")
        self.b = nn.Parameter(b.detach().clone(), requires_grad=trained)
        self.labels, self.pulled, self.reverse = labels, pulled, reverse
        self.special = torch.tensor(sorted(special), dtype=torch.long)

    def forward(
        self,
        vectors: Float[Tensor, "batch pos d"],
        tokens: Int[Tensor, "batch pos"],
        mask: Int[Tensor, "batch pos"],
        labels: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """L_probe: errors of the pulled sentences' tokens over the number of all tokens."""
        real = self.real(tokens, mask)
        nu = squared_norms(self.b.to(vectors)[None], vectors[None])[0]
        errors = profile_errors(nu, real, self.labels, reverse=self.reverse)
        if self.pulled is not None:
            errors = errors * (labels == self.pulled)[:, None]
        return errors.sum() / real.sum().clamp(min=1)

    def real(
        self, tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]
    ) -> Bool[Tensor, "batch pos"]:
        """Which tokens are part of words."""
        return mask.bool() & ~torch.isin(tokens, self.special.to(tokens.device))
