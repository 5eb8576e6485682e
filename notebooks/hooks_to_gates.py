# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From hooks to gates
#
# **Question.** I write TransformerLens hooks by hand. What do the same experiments look like here,
# and do they give the same numbers?
#
# Each cell does one thing twice, by hand and with mechprobe, and compares.

# %%
from functools import partial

import torch

import mechprobe as mp
from mechprobe.models import build_decoder

model = build_decoder(n_layers=2, n_heads=4, d_model=32, d_mlp=64, n_ctx=16, d_vocab=50, seed=0)
rng = torch.Generator().manual_seed(0)
clean = torch.randint(0, 50, (16, 12), generator=rng)
corrupt = torch.randint(0, 50, (16, 12), generator=rng)
answers = torch.randint(0, 50, (16,), generator=rng)
task = mp.Task.from_pairs(clean, corrupt, answers=answers, metric="log_probability")


def measured(logits: torch.Tensor) -> torch.Tensor:
    """Log probability of the answer, one number an example."""
    return logits[:, -1].log_softmax(-1).gather(1, answers[:, None])[:, 0].detach()


# %% [markdown]
# ## Zero ablation of a head

# %%
def zero_head(z, hook, head):
    """Replace one head's output."""
    z[:, :, head] = 0
    return z


by_hand = measured(model.run_with_hooks(
    clean, fwd_hooks=[("blocks.1.attn.hook_z", partial(zero_head, head=2))]
))
with mp.gates(model, closed=["1.2"]):
    in_block = measured(model(clean))
torch.testing.assert_close(by_hand, in_block)

# %% [markdown]
# ## Zero ablation of every head
#
# By hand a double loop; here one call, with intervals, p values and a table.

# %%
loop = torch.empty(2, 4)
for layer in range(2):
    for head in range(4):
        closed = model.run_with_hooks(
            clean, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", partial(zero_head, head=head))]
        )
        loop[layer, head] = (measured(model(clean)) - measured(closed)).mean()
scores = mp.ablate(model, task, baseline="zero", n=None, progress=False)
ours = torch.tensor([
    [scores.effects[scores.sites.index(f"{layer}.{head}")].mean() for head in range(4)]
    for layer in range(2)
])
torch.testing.assert_close(loop.double(), ours.double(), atol=1e-5, rtol=1e-4)
scores

# %% [markdown]
# ## Activation patching
#
# Noising puts the counterfactual's activation into the clean run.

# %%
_, cache = model.run_with_cache(corrupt)


def patch_head(z, hook, head):
    """The head's output in the counterfactual run."""
    z[:, :, head] = cache[hook.name][:, :, head]
    return z


patched = measured(model.run_with_hooks(
    clean, fwd_hooks=[("blocks.0.attn.hook_z", partial(patch_head, head=3))]
))
noising = mp.patch(model, task, direction="noising", n=None, progress=False)
effect = (measured(model(clean)) - patched).mean()
ours = noising.effects[noising.sites.index("0.3")].mean()
torch.testing.assert_close(effect.double(), torch.tensor(ours), atol=1e-5, rtol=1e-4)
print(f"by hand {effect:.5f}, mechprobe {ours:.5f}")

# %% [markdown]
# ## Reading and editing activations by site
#
# `run_with_cache` and `run_with_edits` speak of heads, not of hook names, and are the same for
# decoders, encoders and encoder-decoders. A hook that does not fire raises.

# %%
batch = task.encode().inputs
logits, values = mp.run_with_cache(model, batch, ["1.2"])
site = mp.Site.parse("1.2")
_, own = model.run_with_cache(clean)
torch.testing.assert_close(values[site], own["blocks.1.attn.hook_z"][:, :, 2])

# %% [markdown]
# **Answer.** The numbers are equal to rounding. What is added: a baseline by name, all heads at
# once, held-out examples with intervals and corrected p, and errors where a hand-written hook
# would silently do nothing.
