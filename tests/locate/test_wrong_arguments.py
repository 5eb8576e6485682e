"""Arguments of the wrong kind, as a user's interpreter (without the tests' type checks) meets them.

One program makes every call and prints what each raised.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json
import numpy as np
import torch
import mechprobe as mp
from mechprobe.models import build_decoder

model = build_decoder(n_layers=2, n_heads=2, d_model=8, d_mlp=6, n_ctx=8, d_vocab=12)
clean, corrupt = np.random.default_rng(0).integers(0, 12, (2, 8, 5))
task = mp.PromptTask(clean, corrupt, answers=np.full(8, 3), wrong=np.full(8, 4))
scores = mp.ablate(model, task, progress=False)
heads = ["0.0", "1.1"]
takes = {
    "ablate": mp.ablate, "patch": mp.patch, "attribute": mp.attribute,
    "find_circuits": mp.find_circuits, "compare_baselines": mp.compare_baselines,
    "cumulative": mp.cumulative, "explore": mp.explore, "masks": mp.learn_masks,
    "direct": mp.direct_logit_attribution, "check": mp.check_behaviour,
    "find_subnetworks": mp.find_subnetworks, "masked": mp.masked_subnetworks,
    "faithfulness": lambda m, t: mp.faithfulness(m, t, heads),
    "path_patch": lambda m, t: mp.path_patch(m, t, heads),
    "head_edges": lambda m, t: mp.head_edges(m, t, heads),
    "random_set_p": lambda m, t: mp.random_set_p(m, t, heads),
    "localise": mp.localise, "show_attention": mp.show_attention, "show_logits": mp.show_logits,
}
calls = {f"{name}, {kind}": (lambda f=f, a=a: f(*a)) for name, f in takes.items() for kind, a in {
    "module": (torch.nn.Linear(2, 2), task), "turned": (task, model), "no task": (model, clean[:2]),
}.items()}
calls |= {
    "load None": lambda: mp.load_model(None),
    "load seed": lambda: mp.load_model({"kind": "decoder"}, seed="one"),
    "load cuda": lambda: mp.load_model(model, device="cuda"),
    "load device": lambda: mp.load_model(model, device="gpu"),
    "prompts to find_subnetworks": lambda: mp.find_subnetworks(model, task),
    "task to show_attention": lambda: mp.show_attention(model, task),
    "task to show_logits": lambda: mp.show_logits(model, task),
    "scores as nets": lambda: mp.explore(model, task, scores),
    "seed": lambda: mp.ablate(model, task, seed=0.5),
    "direct without a bar": lambda: mp.direct_logit_attribution(model, task, progress=False),
}
torch.cuda.is_available = lambda: False
said = {}
for name, call in calls.items():
    try:
        call()
        said[name] = ["nothing", ""]
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""
OPEN = "open it with mp.load_model(...) first"
TURNED = "are the arguments the wrong way round? Give the model first"
SAID = {
    "load None": "a NoneType cannot be opened; give a folder",
    "load seed": "seed='one'; give a whole number",
    "load cuda": "device='cuda', but no CUDA is here",
    "load device": "device='gpu'; give 'cpu'",
    "prompts to find_subnetworks": "needs a Task with train and dev splits (mp.load_task), not a "
    "PromptTask; for prompts use mp.masked_subnetworks(model, task)",
    "task to show_attention": "a PromptTask is no text; give a text",
    "task to show_logits": "a PromptTask is no text; give a text",
    "scores as nets": "give them as scores=",
    "seed": "seed=0.5; give a whole number",
}


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_each_call_is_refused_with_a_line_that_helps(said):
    wanted = dict(SAID)
    for name in said:
        if name.endswith(", module"):
            wanted[name] = OPEN
        if name.endswith(", turned"):
            wanted[name] = TURNED
        if name.endswith(", no task"):
            wanted[name] = {"find_subnetworks": "needs a Task"}.get(
                name.removesuffix(", no task"),
                "is no text" if name.startswith("show") else "a ndarray is no task",
            )
    failed = {
        name: said[name] for name, text in wanted.items()
        if said[name][0] != "InputError" or text not in said[name][1] or "\n" in said[name][1]
    }
    assert not failed
    assert len(wanted) == 3 * 19 + len(SAID)


def test_direct_attribution_takes_progress(said):
    assert said["direct without a bar"] == ["nothing", ""]
