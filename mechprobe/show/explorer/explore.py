"""``explore``: a model's heads and MLP layers to click shut, with what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from mechprobe.errors import InputError
from mechprobe.gates.baselines import Baseline
from mechprobe.locate.behaviours import AnyTask, behaviour_of
from mechprobe.locate.measure import baseline_for
from mechprobe.locate.scores import Scores
from mechprobe.models.edits import HookedModel, site_grid
from mechprobe.models.load import load_model
from mechprobe.runs import atomic_write
from mechprobe.show.explorer.answers import told_attention, told_reading, told_set
from mechprobe.show.explorer.circuit import Circuit
from mechprobe.show.explorer.scene import (
    Nets,
    given_effects,
    layout,
    named_sets,
    single_effects,
    text_fields,
    told_interval,
)
from mechprobe.sites import SiteName
from mechprobe.tasks.batches import Batch
from mechprobe.tasks.behaviour import Behaviour

Checkpoints: TypeAlias = Mapping[str, HookedModel | str | Path]


def explore(
    model: HookedModel,
    task: AnyTask,
    nets: Nets = None,
    *,
    checkpoints: Checkpoints | None = None,
    scores: Scores | None = None,
    baseline: str | Baseline = "mean",
    metric: str | Callable[..., Tensor] | None = None,
    split: str = "dev",
    n: int = 64,
    seed: int = 0,
    reference: Sequence[Batch] | None = None,
    progress: bool = True,
) -> Explorer:
    """An interactive page: a click closes a head or MLP layer, and the numbers follow.

    Shown by a notebook (needs ``pip install 'mechprobe[notebooks]'``; tested in JupyterLab, not in
    VS Code or Colab), or written by ``.save_html(path)`` as a page that stays interactive without
    Python. A click costs one pass of the examples through the layers from the first closed site on
    (by the engine, where it knows the model), and the first look such a pass for every site.

    Args:
        task: as for ``mechprobe.ablate``.
        nets: subnetworks to start from and to compare: a ``SubnetworkSet``, a list of them, or a
            mapping from names to the sites each keeps.
        checkpoints: earlier states of the same model by name, in order; the model itself is last.
            Paths are loaded when the slider reaches them.
        scores: what a localiser returned, to colour the model's sites by, named by its method,
            metric and baseline; None: each site is closed alone.
        baseline: what stands in a closed site's place, as for ``mechprobe.ablate``.
        metric: instead of the task's own.
        split: of a task that has splits.
        n: examples measured at every click, drawn with ``seed``.
        reference: what a mean is taken over; None: the examples themselves.
        progress: show a bar when the first effects take long.

    Raises:
        InputError: a task, metric, baseline, nets or scores that do not fit the model.
    """
    if n < 1:
        raise InputError(f"n={n} examples; give 1 or more")
    if isinstance(nets, Scores):
        raise InputError("nets are subnetworks, and these are Scores; give them as scores=...")

    def circuit(of: HookedModel) -> Circuit:
        behaviour = behaviour_of(of, task, metric=metric, split=split, n=n, seed=seed)
        stands = baseline_for(
            baseline, of, behaviour, site_grid(of), reference=reference, seed=seed
        )
        return Circuit(of, behaviour, stands)

    sources: dict[str, HookedModel | str | Path] = {**(checkpoints or {}), "this model": model}
    if checkpoints and "this model" in checkpoints:
        raise InputError("a checkpoint is named 'this model', as the model itself is; rename it")
    return Explorer(sources, circuit, nets, scores, progress)


class Explorer:
    """What ``explore`` returns: a page in a notebook, or a file; answers the page's questions.

    Attributes:
        closed: the sites closed in the page's first set, as last answered.
    """

    def __init__(
        self, sources: Mapping[str, HookedModel | str | Path],
        circuit: Callable[[HookedModel], Circuit], nets: Nets, scores: Scores | None,
        progress: bool,
    ) -> None:
        self._sources, self._make, self._progress = dict(sources), circuit, progress
        self._circuits: dict[int, Circuit] = {}
        self._effects: dict[int, list[list[float] | None]] = {}
        self._last = len(sources) - 1
        self._widget: Any = None
        self._scores = scores
        self.closed: list[str] = []
        self._sets = named_sets(nets, self.circuit.grid)
        if scores is not None:
            self._effects[self._last] = given_effects(scores, self.circuit)

    @property
    def circuit(self) -> Circuit:
        """The model itself, the last of the checkpoints."""
        return self.at(self._last)

    @property
    def behaviour(self) -> Behaviour:
        """The examples and the metric."""
        return self.circuit.behaviour

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, the model itself last."""
        return list(self._sources)

    @property
    def sets(self) -> dict[str, list[str]]:
        """The sites that each subnetwork keeps, by its name on the page."""
        return dict(self._sets.kept)

    def at(self, index: int) -> Circuit:
        """A checkpoint, opened when first asked for.

        Raises:
            InputError: no such checkpoint, or one whose sites are not the model's.
        """
        if not 0 <= index < len(self._sources):
            raise InputError(f"checkpoint {index} of {len(self._sources)}; count from 0")
        if index not in self._circuits:
            source = list(self._sources.values())[index]
            found = self._make(load_model(source) if isinstance(source, str | Path) else source)
            for other in self._circuits.values():
                if other.grid != found.grid:
                    raise InputError(
                        f"checkpoint {self.checkpoints[index]!r} has {len(found.names)} sites, the "
                        f"model {len(other.names)}; give checkpoints of one model"
                    )
            self._circuits[index] = found
        return self._circuits[index]

    def scene(self, index: int | None = None) -> dict[str, Any]:
        """What a page is told of a checkpoint (None: the model itself), plain JSON values."""
        at = self._last if index is None else index
        circuit = self.at(at)
        behaviour = circuit.behaviour
        return {
            "task": behaviour.name, "metric": behaviour.metric_name, "n": len(behaviour),
            "baseline": circuit.baseline.kind, "sites": circuit.names,
            "layout": layout(circuit.grid), "effects": self._effects_at(at),
            "scored": self._scored(at), "full": told_interval(circuit.full.metric),
            "sets": self.sets, "counts": self._sets.counts, "nets": self._sets.n_nets,
            "checkpoints": self.checkpoints, "checkpoint": at,
            "inputs": text_fields(circuit.model),
        }

    def _effects_at(self, index: int) -> list[list[float] | None]:
        if index not in self._effects:
            show = "effects of single sites" if self._progress else None
            self._effects[index] = [*single_effects(self.at(index), show)]
        return self._effects[index]

    def _scored(self, index: int) -> dict[str, str] | None:
        """What the effects of a checkpoint are by; None: of closing each site alone, as here."""
        given = self._scores
        if given is None or index != self._last:
            return None
        return {"method": given.method, "metric": given.metric, "baseline": given.baseline}

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question of the page; ``{"error": ...}`` where the user erred.

        Questions have a ``kind`` and the number of the ``checkpoint`` they are about: "scene",
        "set" (closed, reads, side), "compare" (first, second), "reads" (reads), "attention" (site,
        closed, reads). ``reads`` is the number of an example or a list of one or two texts. Nothing
        about the page is kept here, so that any number of views may ask.
        """
        try:
            circuit = self.at(question["checkpoint"])
            match question["kind"]:
                case "scene":
                    return {"scene": self.scene(question["checkpoint"])}
                case "set":
                    told = told_set(circuit, question["closed"], question["reads"])
                    if question.get("side", 0) == 0:
                        self.closed = list(question["closed"])
                    return told
                case "compare":
                    difference = circuit.compare(question["first"], question["second"])
                    return {"difference": told_interval(difference)}
                case "reads":
                    return told_reading(circuit, question["reads"])
                case "attention":
                    asked = (question[key] for key in ("site", "closed", "reads"))
                    return told_attention(circuit, *asked)
            raise InputError(f"an unknown question {question['kind']!r}")
        except InputError as error:
            return {"error": str(error)}

    def save_html(
        self, path: str | Path, *, sets: Mapping[str, Sequence[SiteName]] | None = None,
        examples: int = 8,
    ) -> Path:
        """Write a page that needs neither Python nor a network.

        It holds what every single site does, and every subnetwork and set given; clicking any other
        combination says that it was not measured.

        Args:
            sets: further sets of closed sites by name.
            examples: how many examples' outputs and attention it holds.

        Raises:
            InputError: sites that do not exist, no examples, or a file that cannot be written.
        """
        from mechprobe.show.explorer.saved import saved_page

        page = saved_page(self, sets or {}, examples)
        return atomic_write(Path(path).expanduser(), page.encode())

    @property
    def widget(self) -> Any:
        """The anywidget that a notebook shows; raises InputError when anywidget is missing."""
        if self._widget is None:
            from mechprobe.show.explorer.widget import make_widget

            self._widget = make_widget(self.scene(), self.answer)
        return self._widget

    def __repr__(self) -> str:
        return f"<Explorer of {self.behaviour.name}: {len(self.circuit.names)} sites>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)
