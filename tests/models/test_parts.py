import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.models import build_decoder, build_encoder
from mechprobe.models.parts import part_sums

SIZES = {"n_layers": 2, "n_heads": 4, "d_model": 8, "n_ctx": 6, "d_vocab": 11}


@pytest.mark.parametrize("settings", [
    {}, {"n_key_value_heads": 2, "normalization_type": "RMS", "gated_mlp": True, "act_fn": "silu",
         "positional_embedding_type": "rotary", "rotary_dim": 2},
])  # fmt: skip
def test_a_mark_on_a_weight_is_found_in_its_part(settings):
    model = build_decoder(**SIZES, **settings)
    parameters = dict(model.named_parameters())

    def marked(name: str, at: tuple) -> object:
        values = {n: torch.zeros_like(p) for n, p in parameters.items()}
        values[name][at] = 2.0
        return part_sums(model, torch.cat([v.reshape(-1) for v in values.values()]))

    query = marked("blocks.1.attn.W_Q", (3, 0, 0))
    assert query.heads[1, 3] == 2.0 == query.total
    output = marked("blocks.0.attn.W_O", (1, 0, 5))
    assert output.heads[0, 1] == 2.0 == output.heads.sum()
    if "blocks.0.attn._W_K" in parameters:
        key = marked("blocks.0.attn._W_K", (1, 0, 0))
        assert key.heads[0].tolist() == [0, 0, 1, 1]
    mlp = marked("blocks.1.mlp.W_in", (0, 0))
    assert mlp.mlps.tolist() == [0, 2] == mlp.layers.tolist()
    assert marked("embed.W_E", (0, 0)).other["embed"] == 2.0
    assert marked("unembed.W_U", (0, 0)).other["unembed"] == 2.0
    assert marked("blocks.0.ln1.w", (0,)).other["norm"] == 2.0
    assert marked("ln_final.w", (0,)).other["norm"] == 2.0


def test_all_weights_are_in_some_part():
    model = build_decoder(**SIZES)
    n = sum(p.numel() for p in model.parameters())
    assert part_sums(model, torch.ones(n)).total == n
    with pytest.raises(InputError, match="3 values for"):
        part_sums(model, torch.ones(3))
    with pytest.raises(InputError, match="is no decoder"):
        part_sums(build_encoder(**SIZES), torch.ones(3))
