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
# # A tour: which heads matter, and how sure can one be?
#
# **Question.** A model answers a question right. Which of its attention heads does the answer pass
# through, and would another method, another baseline or other examples name others?
#
# The model here is built by hand from explicit weights, so that the true circuit is known: every
# answer of this page can be checked. `mp.load_model("gpt2")` or a folder takes its place in real
# work; nothing else changes.

# %%
import matplotlib.pyplot as plt

import mechprobe as mp
from mechprobe.planted.handmade import induction, or_gate

case = induction(seed=0, copies=True)[0]
model, task = case.model, case.task
print(model.cfg.n_layers, "layers,", model.cfg.n_heads, "heads each")
print("true circuits:", [sorted(map(str, circuit)) for circuit in case.minimal])

# %% [markdown]
# ## The behaviour
#
# A task gives clean inputs, right answers and counterfactual inputs, and a metric with a value for
# each example. The string ends with a token that came before; the right answer is what followed it
# there. In the counterfactual something else followed.

# %%
print(task.name, "-", len(task.inputs), "examples, scored by", task.metric_name)
print("clean         ", task.inputs.tokens[0].tolist())
print("counterfactual", task.corrupt.tokens[0].tolist())

# %% [markdown]
# ## Ablation: close one head at a time
#
# A closed head writes a *baseline* instead of its own output: zero, its mean, or, as here, what it
# writes in the paired counterfactual run. Effects are in the unit of the metric. Sites are ranked
# on one half of the examples; estimate, interval and p come from the other.

# %%
scores = mp.ablate(model, task, baseline="paired", progress=False)
scores.table()

# %%
scores.plot()
plt.show()

# %% [markdown]
# ## Does the baseline decide the answer?

# %%
compared = mp.compare_baselines(model, task, progress=False)
compared.table()

# %% [markdown]
# ## Patching, attribution, learned masks: one signature, one result
#
# Every localiser returns the same `Scores`, so that they can be set side by side. They need not
# agree: noising and denoising ask different questions, and a gradient is only a first guess.

# %%
found = {
    "ablation": scores,
    "noising": mp.patch(model, task, direction="noising", progress=False),
    "denoising": mp.patch(model, task, direction="denoising", progress=False),
    "integrated": mp.attribute(
        model, task, method="integrated", metric="logit_difference", progress=False
    ),
    "masks": mp.learn_masks(model, task, baseline="paired", sparsity=0.5, steps=60, progress=False),
}
for name, result in found.items():
    print(f"{name:12}", result.significant())

# %% [markdown]
# ## Minimal circuits: which sets are enough?
#
# Single heads mislead where either of two is enough: closing one changes nothing. `find_circuits`
# looks for *all* minimal sets of heads that keep the accuracy when every other head is closed.

# %%
circuits = mp.find_circuits(model, task, baseline="paired", seed=0)
circuits.table()

# %%
either = or_gate(seed=0)[0]
print("ablation names", mp.ablate(either.model, either.task, baseline="paired",
                                  progress=False).significant())
print("circuits:", [sorted(map(str, circuit)) for circuit in mp.find_circuits(
    either.model, either.task, baseline="paired", seed=0)])

# %% [markdown]
# ## Is the ranking better than chance?
#
# Close heads from the top of the ranking down, beside random orders; and test the whole set against
# random sets of equal size.

# %%
mp.cumulative(model, task, scores, baseline="paired", seed=0, progress=False).plot()
plt.show()

# %%
mp.random_set_p(model, task, sorted(circuits[0]), baseline="paired", seed=0, progress=False)

# %% [markdown]
# ## Edges: who talks to whom?

# %%
edges = mp.head_edges(
    model, task, sorted(circuits.core), metric="logit_difference", progress=False
)
edges.table().head()

# %% [markdown]
# **Answer.** On this model ablation from the counterfactual, patching, masks and the search for
# minimal circuits name the same heads, which are the true ones; `mechprobe selfcheck` tells where
# they would not. The intervals above are over held-out examples, corrected over sites.

# %%
assert set(circuits) == set(case.minimal)
