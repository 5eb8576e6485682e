import gzip
import json
import lzma
from pathlib import Path

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.files import Columns, detokenize, find_file, pick_columns, read_fields

ROWS = [("yes", 'He said "no" .', "naïve café"), ("no", "a, b", '"quoted"')]
COLUMNS = Columns(
    first="one", second="two", label="gold", group=None, labels={"yes": "good", "no": "bad"}
)


def write(path: Path, text: str) -> Path:
    data = text.encode()
    data = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(data)
    path.write_bytes(data)
    return path


def read(path: Path, quoting: str | None = None, header: bool = True) -> list[tuple]:
    return [(n, list(f.values())) for n, f in read_fields(path, quoting, header)]


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_tab_separated_rows_keep_their_quotes(tmp_path, packing, ending):
    lines = ["gold\tone\ttwo", *("\t".join(row) for row in ROWS)]
    path = write(tmp_path / f"d.tsv{packing}", ending.join(lines) + ending)
    assert read(path) == [(2, list(ROWS[0])), (3, list(ROWS[1]))]


@pytest.mark.parametrize(("name", "mark"), [("d.csv", ","), ("d.tsv", "\t")])
def test_csv_quoting_is_undone(tmp_path, name, mark):
    quoted = ['"' + field.replace('"', '""') + '"' for row in ROWS for field in row]
    lines = [mark.join(["gold", "one", "two"]), mark.join(quoted[:3]), mark.join(quoted[3:])]
    path = write(tmp_path / name, "\n".join(lines))
    assert read(path, None if name == "d.csv" else "csv") == [
        (2, list(ROWS[0])),
        (3, list(ROWS[1])),
    ]


def test_json_lines(tmp_path):
    objects = [{"gold": g, "one": a, "two": b} for g, a, b in ROWS]
    path = write(tmp_path / "d.jsonl.xz", "\n".join(map(json.dumps, objects)) + "\n\n")
    assert [fields for _, fields in read_fields(path, None, True)] == objects


def test_columns_by_number_without_a_header(tmp_path):
    path = write(tmp_path / "d.tsv", "7\tleft\tright\t1\n8\tup\tdown\t0\n")
    columns = Columns(first=1, second=2, label=3, group="label", labels={"0": "no", "1": "yes"})
    rows = pick_columns(read_fields(path, "none", False), columns, "d.tsv")
    assert [(r.first, r.second, r.label, r.group) for r in rows] == [
        ("left", "right", "yes", "yes"),
        ("up", "down", "no", "no"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = write(tmp_path / "d.tsv", "\ufeffgold\tone\ttwo\nyes\ta\tb\n")
    assert next(read_fields(path, None, True))[1]["gold"] == "yes"


@pytest.mark.parametrize(
    ("text", "quoting", "message"),
    [
        (
            "gold\tone\ttwo\nyes\ta\tb\nyes\ta\nno\ta\tb\tc\n",
            "none",
            r"d\.tsv line 3: 2 fields where 3 were expected \(2 such rows in the file\)",
        ),
        (
            'gold\tone\ttwo\nyes\t"a\tb\nno\tc"\td\n',
            "csv",
            r"d\.tsv line 2: a quoted field runs on to line 3; close the quote, or set quoting",
        ),
        ('gold\tone\ttwo\nyes\t"a\tb\nno\tc\td\n', "csv", r"d\.tsv line 3: unexpected end of data"),
        ('gold\tone\ttwo\nyes\t"a"b\tb\n', "csv", r"d\.tsv line 2: .*; mend the quotes"),
        ("", "none", r"d\.tsv is empty"),
        ("a\tb\n", "sometimes", "quoting is 'sometimes'; expected 'csv' or 'none'"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(tmp_path, text, quoting, message):
    path = write(tmp_path / "d.tsv", text)
    with pytest.raises(InputError, match=message) as refused:
        read(path, quoting)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("d.tsv.gz", gzip.compress(b"gold\tone\ttwo\n" * 999)[:60], "cannot be read"),
        ("d.tsv.gz", b"not packed at all", "cannot be read"),
        ("d.tsv.xz", lzma.compress(b"gold\tone\ttwo\n" * 999)[:60], "cannot be read"),
        ("d.tsv", b"gold\tone\n\xff\xfe\tb\n", "check that it is whole and UTF-8 text"),
        ("d.parquet", b"PAR1", "cannot tell the format; expected .tsv"),
        ("d.jsonl", b'{"gold": 1}\n{oops\n', "d.jsonl line 2 is not JSON"),
        ("d.jsonl", b"[1, 2]\n", "d.jsonl line 1 holds a list; expected one JSON object"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path / name)
    assert str(refused.value).startswith(name)
    assert "\n" not in str(refused.value)


def picked(fields: dict, **changes) -> list:
    return pick_columns([(9, fields)], Columns(**{**vars(COLUMNS), **changes}), "d.tsv")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"gold": "yes", "one": "a"},
            r"d\.tsv has columns gold, one; the card expects one, two, gold; mend",
        ),
        (
            {"gold": "maybe", "one": "a", "two": "b"},
            r"d\.tsv line 9: label 'maybe' is not in the card; it knows yes, no;",
        ),
        (
            {"gold": "yes", "one": "a", "two": " "},
            r"d\.tsv line 9: an empty sentence in column 'two'",
        ),
        ({"gold": "yes", "one": None, "two": "b"}, r"an empty sentence in column 'one'"),
    ],
)
def test_a_row_the_card_does_not_fit_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        picked(fields)


def test_rows_may_be_left_out_on_purpose():
    assert picked({"gold": "-1", "one": "a", "two": "b"}, drop=("-1",)) == []
    assert picked({"gold": "yes", "one": "a", "two": ""}, drop_empty=True) == []


def test_the_group_column_and_the_label_map_are_applied():
    fields = {"gold": "no", "one": " a ", "two": "b", "case": "swap"}
    row = picked(fields, group="case")[0]
    assert (row.first, row.second, row.label, row.group) == ("a", "b", "bad", "swap")
    with pytest.raises(InputError, match="the card expects one, two, gold, kind"):
        picked(fields, group="kind")


def test_files_are_found_with_or_without_their_folder(tmp_path):
    (tmp_path / "nli").mkdir()
    inside = write(tmp_path / "nli" / "a.tsv", "x")
    assert find_file(tmp_path, "nli/a.tsv", "c") == inside
    assert find_file(tmp_path / "nli", "nli/a.tsv", "c") == inside
    with pytest.raises(InputError, match=r"card c: no file nli/b\.tsv in .*; put it there"):
        find_file(tmp_path, "nli/b.tsv", "c")
    with pytest.raises(InputError, match=r"data_dir .*nowhere is no folder"):
        find_file(tmp_path / "nowhere", "a.tsv", "c")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("I do n't know , she 's late .", "I don't know, she's late."),
        ("We ca n't say `` no '' -LRB- yet -RRB- !", 'We can\'t say "no" (yet)!'),
        ("They 'll see ( perhaps ) ; I 'd wait", "They'll see (perhaps); I'd wait"),
        ("It cost $ 5 or 3 % - a 'small sum'", "It cost $ 5 or 3% - a 'small sum'"),
        ("nothing to mend", "nothing to mend"),
    ],
)
def test_tokenised_text_is_put_back(tokens, text):
    assert detokenize(tokens) == text
    assert detokenize(text) == text
