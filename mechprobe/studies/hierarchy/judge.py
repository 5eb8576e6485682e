"""Turn the gathered results into the study's list of judged claims."""

from __future__ import annotations

from mechprobe.studies.claims import HELD, UNTESTED, Claim, replace_verdict
from mechprobe.studies.hierarchy import shapes, verdict_inside, verdict_training
from mechprobe.studies.hierarchy.results import Results
from mechprobe.studies.hierarchy.settings import Settings


def judge_all(settings: Settings, results: Results) -> list[Claim]:
    """Every claim of the paper that this run can speak to; the first is the positive control."""
    claims = [
        verdict_training.control_claim(results),
        *verdict_training.exact_inference_claims(results),
        *verdict_training.staircase_claims(results),
        verdict_training.rise_and_fall_claim(results),
        verdict_training.own_level_claim(results),
        verdict_training.scaling_claim(results),
        *verdict_inside.attention_claims(results),
        verdict_inside.layers_claim(results),
        *verdict_inside.probe_claims(results),
        verdict_inside.construction_claim(results),
        *shapes.layers_needed_claims(results),
        verdict_inside.blocks_claim(results),
        *verdict_inside.ranking_claims(results),
    ]
    if claims[0].verdict == HELD:
        return claims
    return [claims[0], *(
        replace_verdict(claim, UNTESTED, "the positive control did not hold; ")
        for claim in claims[1:]
    )]
