"""Train the study's models, keep their trajectories, and open any point of them again."""

from __future__ import annotations

from pathlib import Path

from mechprobe.models.edits import HookedModel
from mechprobe.models.fixed_length import HookedFixedLengthEncoder
from mechprobe.models.load import load_model
from mechprobe.models.save import save_model
from mechprobe.runs import Run, progress
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, checkpoint_steps, grammar_of
from mechprobe.training.fresh import FreshSettings, fit_fresh
from mechprobe.training.tree_tasks import TreeTask, tree_encoder

MOST_STEPS_LOST = 500
"""Steps of training that a kill can cost; the state is saved at least this often."""


def model_folder(run: Run, spec: Spec, step: int) -> Path:
    """Where a point of a model's trajectory is kept."""
    return run.path(f"models/{spec.name}/step-{step:08d}")


def fresh_model(settings: Settings, spec: Spec) -> HookedFixedLengthEncoder:
    """The model before training, on the run's device."""
    model = tree_encoder(
        grammar_of(settings, spec), spec.kind, n_layers=spec.n_layers, n_heads=spec.n_heads,
        d_model=settings.d_model, d_mlp=settings.d_mlp, norm=settings.norm,
        positions=settings.positions, seed=settings.seed,
    )
    return model.to(settings.device)


def training_task(settings: Settings, spec: Spec) -> TreeTask:
    """What a model is trained on; models of one kind and k see the same sequences."""
    return TreeTask(
        grammar_of(settings, spec), spec.kind, spec.k, batch_size=settings.batch,
        seed=settings.seed, max_masks=settings.max_masks, n_train=settings.n_train or None,
        device=settings.device,
    )


def train(settings: Settings, spec: Spec, run: Run) -> dict:
    """Train one model and save its trajectory; resumes mid-way; a unit of the run."""
    model, task = fresh_model(settings, spec), training_task(settings, spec)
    fit = FreshSettings(
        steps=spec.steps, lr=settings.lr, warmup_steps=settings.warmup, decay=settings.decay
    )
    points = checkpoint_steps(settings, spec)
    every = max(1, spec.steps // 200)

    def on_checkpoint(step: int, model: HookedFixedLengthEncoder) -> None:
        save_model(model, model_folder(run, spec, step))

    with progress(spec.steps, f"train {spec.name}") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            if step % every == 0:
                run.log(f"train-{spec.name}", step, loss=loss)

        fit_fresh(
            model, task.loss, fit, trajectory=points, on_checkpoint=on_checkpoint,
            on_step=on_step, store=run.checkpoint(f"train-{spec.name}"),
            save_every=min(MOST_STEPS_LOST, max(1, spec.steps // 10)), shared=True,
        )
    return {"steps": points, "parameters": sum(p.numel() for p in model.parameters())}


def open_model(settings: Settings, run: Run, spec: Spec, step: int | None = None) -> HookedModel:
    """A saved point of a model's trajectory (the last when None), frozen."""
    step = checkpoint_steps(settings, spec)[-1] if step is None else step
    model = load_model(model_folder(run, spec, step), device=settings.device)
    return model.requires_grad_(False).eval()
