"""What decided a run: its settings, versions and machine kind, and whether two runs are one."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Any

from mechprobe.errors import InputError

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
    """Python, system, CPU threads and package versions; no host or user name."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": os.cpu_count() if torch is None else torch.get_num_threads(),
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
