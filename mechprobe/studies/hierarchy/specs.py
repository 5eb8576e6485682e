"""The models of a run by name: what each is trained on, how long, and of which size."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from mechprobe.errors import InputError
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.trees import Grammar

_NAME = re.compile(r"(root|masked)-k(\d+)((?:-(?:heads|layers|depth|q)\d+)*)")


@dataclass(frozen=True)
class Spec:
    """One model: task, filter level, sizes.

    ``depth`` and ``q`` are those of its own grammar (``--rules`` decide q, whatever it says here).
    """

    name: str
    kind: str
    k: int
    n_heads: int
    n_layers: int
    depth: int
    q: int
    steps: int
    variant: bool

    @property
    def full(self) -> bool:
        """Whether it is trained on the full hierarchy."""
        return self.k == 0

    @property
    def own_grammar(self) -> bool:
        """Whether its grammar is the run's, not one of another depth or q."""
        return "-depth" not in self.name and "-q" not in self.name


def read_spec(settings: Settings, name: str) -> Spec:
    """The model that a name such as ``masked-k0-heads4`` asks for.

    Raises:
        InputError: a name that is not understood, a k outside 0 .. depth, or no layers or heads.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(
            f"model {name!r} is not understood; write root or masked, -kK, and if wanted -headsH, "
            "-layersL, -depthD or -qQ, such as 'masked-k0-heads4'"
        )
    parts = re.findall(r"-([a-z]+)(\d+)", found[3])
    more = {key: int(value) for key, value in parts}
    if len(more) < len(parts) or 0 in (more.get("heads"), more.get("layers")):
        raise InputError(
            f"model {name!r} names a part twice, or no heads or layers; give each part once, with "
            "1 or more"
        )
    depth, q = more.get("depth", settings.depth), more.get("q", settings.q)
    kind, k = found[1], int(found[2])
    if not 0 <= k <= depth:
        raise InputError(
            f"model {name!r}: filter level k={k} is not possible for depth {depth}; give k in "
            f"0..{depth} (0: full hierarchy), or name other models with --models"
        )
    steps = getattr(settings, f"{kind}_{'' if k == 0 else 'filtered_'}steps")
    if more and settings.variant_steps:
        steps = settings.variant_steps
    return Spec(
        name=name, kind=kind, k=k, n_heads=more.get("heads", settings.n_heads),
        n_layers=more.get("layers", settings.n_layers or depth), depth=depth, q=q, steps=steps,
        variant=bool(more),
    )


def read_specs(settings: Settings) -> list[Spec]:
    """Every model of a run, in the order given.

    Raises:
        InputError: none, one named twice, or as ``read_spec``.
    """
    if not settings.models:
        raise InputError("no models given; give at least one, such as --models root-k0")
    if len(set(settings.models)) < len(settings.models):
        raise InputError(f"--models names one twice: {' '.join(settings.models)}; give each once")
    return [read_spec(settings, name) for name in settings.models]


def grammar_of(settings: Settings, spec: Spec | None = None) -> Grammar:
    """The grammar of a model, or of the run: random, or the user's own rules.

    Raises:
        InputError: rules that cannot be read, do not sum to one, are ambiguous where that is
            refused, or a model that asks for another q than they have.
    """
    depth = settings.depth if spec is None else spec.depth
    q = settings.q if spec is None else spec.q
    if settings.rules is None:
        return Grammar.random(
            q=q, depth=depth, sigma=settings.sigma, seed=settings.grammar_seed,
            arity=settings.arity,
        )
    table = _read_rules(Path(settings.rules).expanduser())
    grammar = Grammar.from_tensor(table, depth, unambiguous=settings.unambiguous)
    if spec is not None and f"-q{spec.q}" in spec.name and spec.q != grammar.q:
        raise InputError(
            f"model {spec.name!r} asks for q={spec.q}, but {settings.rules} has {grammar.q} symbols"
        )
    return grammar


def _read_rules(path: Path) -> torch.Tensor:
    try:
        return torch.tensor(json.loads(path.read_text()), dtype=torch.float64)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"rules {path} cannot be read ({reason}); give a JSON file of nested lists of equal "
            "length, [parent][first child]...[last child]"
        ) from None


def checkpoint_steps(settings: Settings, spec: Spec) -> list[int]:
    """Steps of a model's trajectory: 0, then evenly in log steps, the last is the end."""
    points, n = {0, spec.steps}, settings.n_checkpoints - 1
    first = min(10, spec.steps)
    for i in range(n):
        share = i / max(1, n - 1)
        points.add(round(first * (spec.steps / first) ** share))
    return sorted(points)
