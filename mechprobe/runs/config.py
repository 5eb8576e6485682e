"""What decided a run: its settings, versions and machine kind, and whether two runs are one."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Any

from mechprobe.errors import InputError
from mechprobe.runs.crew import launched
from mechprobe.runs.files import atomic_write, to_json

CONFIG = "config.json"
PACKAGES = (
    "mechprobe", "torch", "transformer-lens", "transformers", "tokenizers", "datasets",
    "safetensors", "numpy", "scipy", "pandas", "matplotlib",
)
FREE = frozenset({"threads", "device", "chunk", "data_dir"})
"""Settings that move a number by rounding at most, or say only where the same data lie."""


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, of an absolute path only its last part, so that nothing names a machine."""
    return {key: _anonymous(value) for key, value in config.items()}


def environment() -> dict[str, Any]:
    """Python, system, CPU threads, processes if several, package versions; no host or user."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": os.cpu_count() if torch is None else torch.get_num_threads(),
        **({"processes": n} if (n := launched()) > 1 else {}),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, with both values; "(absent)" where there is none."""
    return {
        key: (old.get(key, "(absent)"), new.get(key, "(absent)"))
        for key in dict.fromkeys((*old, *new))
        if old.get(key, "(absent)") != new.get(key, "(absent)")
    }


def refuse_other_settings(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], free: Collection[str] = FREE
) -> None:
    """Raise InputError when ``folder`` holds another study, or other result-deciding settings."""
    if old.get("study") != new.get("study"):
        raise InputError(
            f"{folder} holds a run of {old.get('study')!r}, not of {new.get('study')!r}; "
            "give another folder with --out"
        )
    changed = {k: v for k, v in differences(old, new).items() if k not in free}
    if changed:
        shown = ", ".join(f"{key}: {a!r} -> {b!r}" for key, (a, b) in changed.items())
        raise InputError(
            f"{folder} holds a run with other settings ({shown}); use the same settings to go on "
            "with it, or another folder"
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """The record of a run: "settings", "environment" and, if any, what changed when "resumed".

    Raises:
        InputError: the folder holds no run, or its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no run (no {CONFIG}); give the folder of a run")
    try:
        kept = json.loads(path.read_bytes())
        if not isinstance(kept, dict) or not {"settings", "environment"} <= set(kept):
            raise ValueError("not the config of a run")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]}), so it cannot be told which "
            "settings the results in this folder are of; put back a copy of it, or give another "
            "folder"
        ) from None
    return kept


def settle(
    folder: Path, config: Mapping[str, Any], free: Collection[str] = FREE
) -> dict[str, Any]:
    """Write the config of a new run, or check it against the one that is there.

    Raises:
        InputError: another study, other settings, or another version of mechprobe; each difference
            is shown.
    """
    settings = json.loads(to_json(config))
    now = environment()
    path = folder / CONFIG
    if not path.exists():
        kept = {"settings": settings, "environment": now}
        atomic_write(path, to_json(kept))
        return kept
    kept = read_config(folder)
    refuse_other_settings(folder, kept["settings"], settings, free)
    refuse_other_version(folder, kept["environment"], now)
    changed = differences(_flat(kept), _flat({"settings": settings, "environment": now}))
    news = {key: list(pair) for key, pair in changed.items()}
    if news and news not in kept.get("resumed", []):
        shown = ", ".join(f"{key}: {a} -> {b}" for key, (a, b) in news.items())
        print(f"mechprobe: resuming {folder} with a change that may move numbers by rounding: "
              f"{shown}", file=sys.stderr)
        kept["resumed"] = [*kept.get("resumed", []), news]
        atomic_write(path, to_json(kept))
    return kept


def refuse_other_version(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise InputError when a run was begun by another version of mechprobe."""
    before, now = (one.get("versions", {}).get("mechprobe") for one in (old, new))
    if before != now:
        raise InputError(
            f"{folder} holds results of mechprobe {before or '(not told)'}, and this is {now}, "
            "which may compute them otherwise; go on with that version, or give another folder"
        )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    own, versions = dict(config["environment"]), config["environment"].get("versions", {})
    own.pop("versions", None)
    return {**own, **versions, **config["settings"]}


def _anonymous(value: Any) -> Any:
    match value:
        case str() | Path() if Path(value).is_absolute() or PureWindowsPath(value).is_absolute():
            return f".../{PureWindowsPath(value).name}"
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _anonymous(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_anonymous(item) for item in value]
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
