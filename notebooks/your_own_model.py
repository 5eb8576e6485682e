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
# # Bring your own model and task
#
# **Question.** How does one ask "which heads?" of one's own model and one's own examples?
#
# Any `HookedTransformer`, any Hugging Face module of a supported family, any local folder works.
# Here: a Llama-shaped model with random weights stands for yours, because this page must run
# without a network.

# %%
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import mechprobe as mp

torch.manual_seed(0)
yours = LlamaForCausalLM(LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
))
model = mp.load_model(yours)  # or "gpt2", "./folder", a HookedTransformer
print(mp.site_grid(model))

# %% [markdown]
# ## Examples: clean, counterfactual, answers
#
# With a tokenizer `Task.from_pairs` takes texts; token arrays do without one. Pairs have equal
# length, so that position by position one can be patched into the other.

# %%
rng = torch.Generator().manual_seed(1)
clean = torch.randint(3, 64, (32, 10), generator=rng)
corrupt = clean.clone()
corrupt[:, 4] = torch.randint(3, 64, (32,), generator=rng)
task = mp.Task.from_pairs(
    clean, corrupt, answers=clean[:, 4], wrong=corrupt[:, 4], metric="logit_difference",
    name="copy the fifth token",
)

# %%
scores = mp.ablate(model, task, baseline="paired", progress=False)
scores

# %% [markdown]
# No head of a random model copies the fifth token, and the table says so: no corrected p is small.
# That is the control any result of yours should be held against.

# %%
scores.significant()

# %% [markdown]
# ## A metric of your own
#
# A function of the logits `[batch, pos, vocab]` (and of `batch` and `targets`, when it takes them)
# that gives one number an example.

# %%
def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of the next token in nats."""
    log_p = logits[:, -1].log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


mp.ablate(model, task, baseline="mean", metric=entropy, progress=False)

# %% [markdown]
# ## Sequence pairs from a table
#
# A classifier's task is a card (TOML) that names files and columns; see "Your own task" in the
# README. Scores, subnetworks, circuits and figures are the same from there on.

# %% [markdown]
# **Answer.** Three lines: `load_model`, `Task.from_pairs`, any localiser. The uncertainty comes
# with the result: intervals over held-out examples, p corrected over all heads.
