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
# # Does a model reuse a concept in new words?
#
# **Question.** A model learns the grammar of one task, in words that mean nothing. Does it use what
# it learnt there when the same grammar comes back in other words, and in which heads does that
# stand? (An et al. 2023, *Does Deep Learning Learn to Abstract?*)
#
# One vocabulary, half of the sentences and about half of the steps of `mechprobe run abstraction`
# keep this page to two minutes; what the study itself found, with three vocabularies, is read from
# `benchmarks/results/` and stands beside.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import mechprobe as mp
from mechprobe.figures import gains, head_map
from mechprobe.studies.abstraction.pictures import head_maps

SIZES = {"n_train": 1_200, "n_test": 200, "n_ood": 300}
tasks = mp.load_abstraction(
    "abstraction/mini", probe="mod", contrast="no_generalisation", redraw="frame", seed=0, **SIZES
)


def pairs(splits, split, n=2):
    """Some sentences of a task with the meanings asked for."""
    shown = splits[split]
    return [{"split": split, "sentence": " ".join(shown.source[i]),
             "meaning": " ".join(shown.target[i])} for i in range(n)]


pd.set_option("display.max_colwidth", 90)
pd.DataFrame(pairs(tasks.target, "train") + pairs(tasks.target, "ood"))

# %% [markdown]
# ## The concept stands in the other task
#
# Training sentences of the target task never have a phrase on the subject (`the sailor beside a
# stove`); the `ood` sentences do. The auxiliary task has the same grammar in invented words, and
# there subjects do have phrases. The contrast task is the auxiliary one without such sentences: it
# has others of the same lengths in their place.

# %%
pd.DataFrame(
    pairs(tasks.auxiliary, "train") + pairs(tasks.auxiliary, "ood") + pairs(tasks.contrast, "train")
)

# %% [markdown]
# ## Three models
#
# *Main* learns the auxiliary task, then the target task; *contrast* the contrast task, then the
# target task; *control* the target task alone. In the second step only the embeddings of new nouns
# and verbs learn, so that the rest of the model must be reused; new prepositions are given those of
# the auxiliary task that they stand for.

# %%
folder = mp.run_study(
    "abstraction", "laptop", Path(tempfile.mkdtemp()) / "run", n_sets=1, adapt=("content",),
    points=0, baselines=("mean",), auxiliary_steps=600, finetune_steps=300, n_heads_eval=80,
    n_boot=500, **SIZES,
)
procedures = pd.read_csv(folder / "tables" / "procedures.csv")
procedures.round(3)

# %% [markdown]
# ## What the auxiliary task gives
#
# E1 is main less control, E2 main less contrast, in exact matches of whole meanings. Intervals are
# over sentences: with one vocabulary nothing can be said about others. The recorded run has three.

# %%
here = pd.read_csv(folder / "tables" / "gains.csv")
record = Path(mp.__file__).parents[1] / "benchmarks" / "results" / "abstraction-laptop"
recorded = pd.read_csv(record / "tables" / "gains.csv")
recorded = recorded[recorded["adapt"] == "content"]
pd.concat({"here": here, "recorded": recorded}).drop(columns="adapt").round(3)

# %%
gains(here)
plt.show()

# %% [markdown]
# ## In which heads does it stand?
#
# Each head is closed (its mean stands in). Score: what the answers lose in log probability on
# sentences with the concept beyond what they lose on those without. Ranked on one half of the
# sentences, reported on the other.

# %%
heads = pd.read_csv(folder / "tables" / "heads-mean-set-1.csv", dtype={"site": str})
heads.head(6).round(3)

# %%
(_, values, marked), = head_maps(heads)
head_map(values, unit="loss beyond the other sentences (nats)", diverging=True, number=".2g",
         marked=marked, framed="p < .05, corrected")

# %% [markdown]
# ## What may be claimed
#
# The study judges itself: where the tasks are not learnt well enough, nothing else is testable.

# %%
report = json.loads((folder / "report.json").read_text())
pd.DataFrame(report["claims"])[["verdict", "claim", "numbers"]].style.hide(axis="index")

# %% [markdown]
# **Answer.** Here, with one vocabulary, main answers about 43 points [37, 49] more of the
# sentences with the new concept than control and 20 [15, 25] more than contrast; but with so few
# sentences and steps the tasks are not learnt to 90 %, so the study itself calls the claim not
# testable above. Recorded, with three vocabularies and tasks learnt: 69 points [62, 74] more than
# control, 51 [40, 63] more than contrast; against a control and a contrast that learn *all* weights
# still 44 [35, 52] and 50 [41, 59]. So the body holds the concept, and words that are learnt
# without it can use it. Where all weights learn the target task, little of it is left: 4 points
# [0, 8] more than control. No small set of heads carries it by the study's own criterion, and three
# vocabularies are few.

# %%
assert (here["low"] > 0).all()
