"""One source of a file-based card: local files, or a data set of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError
from mechprobe.tasks.files import Columns, Fields, Row, find_file, pick_columns, read_fields

_COLUMN_KEYS = ("first", "second", "label")


def check_source(card: Mapping[str, Any], name: str, data_dir: Path | None) -> None:
    """Raise InputError if a source cannot be read this way, before anything long is done."""
    source = card["sources"][name]
    where = f"card {card['name']}: source {name!r}"
    if data_dir is None:
        if not source.get("hub"):
            if not _files(source):
                raise InputError(
                    f"{where} has neither files nor a copy on the hub; add [sources.{name}.local] "
                    "with files = [...] to the card"
                )
            raise InputError(
                f"{where} has no public copy on the hub; give data_dir, a folder with "
                f"{', '.join(_files(source))}"
            )
        for route in _routes(source):
            if not {"path", "split"} <= route.keys():
                raise InputError(
                    f"{where}: its hub table needs path and split; add them to the card"
                )
            _columns(source, route, where)
        return
    on_hub = all(other.get("hub") for other in card["sources"].values())
    if "local" not in source:
        way = "leave data_dir out to load it from the hub, or " if on_hub else ""
        raise InputError(
            f"{where} has no local files; {way}add [sources.{name}.local] with files = [...] to "
            "the card"
        )
    if not _files(source):
        raise InputError(f"{where} has no files under local; add files = [...] to the card")
    _columns(source, source["local"], where)
    for file in _files(source):
        find_file(data_dir, file, card["name"], on_hub)


def _files(source: Mapping[str, Any]) -> list[str]:
    files = source.get("local", {}).get("files", [])
    return files if isinstance(files, list) else [files]


def _routes(source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    routes = source["hub"]
    return [routes] if isinstance(routes, Mapping) else routes


def read_source(card: Mapping[str, Any], name: str, data_dir: Path | None) -> list[Row]:
    """The pairs of a source that passed ``check_source``: from ``data_dir``, or from the hub."""
    source = card["sources"][name]
    where = f"card {card['name']}: source {name!r}"
    if data_dir is None:
        return _from_hub(source, where)
    local, files = source["local"], _files(source)
    columns = _columns(source, local, where)
    rows: list[Row] = []
    for file in files:
        path = find_file(data_dir, file, card["name"])
        fields = read_fields(path, local.get("quoting"), local.get("header", True))
        rows += pick_columns(fields, columns, path.name)
    if not rows:
        raise InputError(f"{where}: no rows in {', '.join(files)}; check the files")
    return rows


def _columns(source: Mapping[str, Any], route: Mapping[str, Any], where: str) -> Columns:
    settings = {**source, **route}
    missing = [key for key in (*_COLUMN_KEYS, "labels") if key not in settings]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; add it to the card")
    return Columns(
        first=settings["first"],
        second=settings["second"],
        label=settings["label"],
        group=settings.get("group"),
        labels=settings["labels"],
        drop=tuple(settings.get("drop", ())),
        drop_empty=settings.get("drop_empty", False),
        detokenize=settings.get("detokenize", False),
    )


def _from_hub(source: Mapping[str, Any], where: str) -> list[Row]:
    """The pairs of the first of the card's hub addresses that can be loaded."""
    from datasets import load_dataset

    failures: list[str] = []
    for route in _routes(source):
        address = f"{route['path']} {route.get('config', '')}".strip()
        try:
            data = load_dataset(
                route["path"],
                route.get("config"),
                split=route["split"],
                revision=route.get("revision"),
                **route.get("options", {}),
            )
        except Exception as error:  # whatever the hub, the network or the cache raised
            reason = (str(error).strip().splitlines() or [""])[0]
            failures.append(f"{address}: {type(error).__name__} {reason}"[:200])
            continue
        return pick_columns(_numbered(data), _columns(source, route, where), address)
    raise InputError(
        f"{where} could not be loaded from the hub ({'; '.join(failures)}); check the network, or "
        "give data_dir, a folder with local copies"
    )


def _numbered(data: Any) -> Iterator[tuple[int, Fields]]:
    yield from enumerate(data, 1)
