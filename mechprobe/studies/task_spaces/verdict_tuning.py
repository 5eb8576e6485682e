"""Claims about kinds of tuning: what each gains, and what it costs in perplexity."""

from __future__ import annotations

import numpy as np

from mechprobe.stats import bootstrap_mean, sign_flip_p
from mechprobe.studies.claims import UNTESTED, Claim, judge, p_value, percent
from mechprobe.studies.task_spaces.regime import FINE_TUNING, HINGED, PLAIN, sparse_name
from mechprobe.studies.task_spaces.results import Results
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.tables import cost_of_gain, within_budget

ALPHA = 0.05
PAPER = "FTGD about the accuracy of fine-tuning with a smaller rise of perplexity (no number)"
NAMES = (
    "FTGD (hinged) gains what fine-tuning gains with a smaller rise of perplexity",
    "At the same cost in perplexity FTGD (hinged) gains more than fine-tuning",
    "At the same cost in perplexity FTGD without a hinge gains more than fine-tuning",
    "The weights of largest gradient keep most of the gain",
    "They do better than as many random weights",
)
OF_BEST = 0.9


def tuning_claims(settings: Settings, results: Results) -> list[Claim]:
    """Claim 6: accuracy without the cost in perplexity; and what the sparsity is worth."""
    if results.kinds.empty or results.kinds.task.nunique() < 4:
        return [Claim(name, UNTESTED, "fewer than 4 tasks were compared", PAPER) for name in NAMES]
    sparse, random = sparse_name(settings), sparse_name(settings, "random")
    bare = f"{PLAIN}, {sparse.split(', ')[1]}"
    gain = {
        name: within_budget(results.kinds, name, settings.budget).to_numpy()
        for name in (FINE_TUNING, bare, HINGED, sparse, random)
    }

    def against(first: str, second: str) -> tuple[str, float, float]:
        difference = gain[first] - gain[second]
        ends, p = bootstrap_mean(difference, 0, 1_000), float(sign_flip_p(difference))
        text = (
            f"gain of {first} {100 * gain[first].mean():.1f} points, of {second} "
            f"{100 * gain[second].mean():.1f}; difference {100 * ends.estimate:.1f} "
            f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}] over {len(difference)} tasks "
            f"({p_value(p)})"
        )
        return text, ends.low, p

    rule = (f" at a median perplexity ratio of at most {settings.budget:g}; each task's learning "
            "rate chosen by the other tasks")
    least = 2.0 ** (1 - len(gain[HINGED]))
    ours, low, p = against(sparse, FINE_TUNING)
    plain, plain_low, plain_p = against(bare, FINE_TUNING)
    kept, *_ = against(sparse, HINGED)
    share = gain[sparse].mean() / max(gain[HINGED].mean(), 1e-9)
    rand, rand_low, rand_p = against(sparse, random)
    return [
        cheaper(results, sparse, least),
        Claim(NAMES[1], judge(low > 0 and p < ALPHA, least, ALPHA), ours + rule, PAPER),
        Claim(NAMES[2], judge(plain_low > 0 and plain_p < ALPHA, least, ALPHA), plain + rule,
              PAPER),
        Claim(NAMES[3], judge(share >= 0.7), f"{kept}: {percent(share)} % of it; asked: 70 %"
              + rule, "sparse subspaces suffice (no number)"),
        Claim(NAMES[4], judge(rand_low > 0 and rand_p < ALPHA, least, ALPHA), rand + rule,
              "not compared in what could be read"),
    ]


def cheaper(results: Results, sparse: str, least: float) -> Claim:
    """The paper's own comparison: perplexity at (nearly) fine-tuning's best gain."""
    ours, usual = (
        cost_of_gain(results.kinds, name, FINE_TUNING, OF_BEST) for name in (sparse, FINE_TUNING)
    )
    difference = np.log(ours.ratio.to_numpy()) - np.log(usual.ratio.to_numpy())
    ends, p = bootstrap_mean(difference, 0, 1_000), float(sign_flip_p(difference))
    shown = [
        f"{name} {100 * of.gain.mean():.1f} points at {of.ratio.median():.3f} times the perplexity"
        for name, of in ((sparse, ours), (FINE_TUNING, usual))
    ]
    return Claim(
        NAMES[0], judge(ends.high < 0 and p < ALPHA, least, ALPHA),
        f"{shown[0]}, {shown[1]} (medians over tasks); ratio of the two ratios "
        f"{np.exp(ends.estimate):.3f} [{np.exp(ends.low):.3f}, {np.exp(ends.high):.3f}] over "
        f"{len(difference)} tasks ({p_value(p)}); each at the learning rate of least perplexity "
        f"that the other tasks reach {percent(OF_BEST)} % of fine-tuning's best gain with; ratios "
        "above 100, and a gain that is not reached, count as 100", PAPER,
    )
