"""Text formats inside gzip and Zstandard: read, corrected, and taken back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
import toy
from data_files import read, refused, write

import llm_relabel as lr

ENDINGS = {"gzip": ".gz", "zstd": ".zst"}


def pack(path: Path, kind: str) -> Path:
    """The same file packed, in the place of the plain one."""
    packed = path.with_name(path.name + ENDINGS[kind])
    with pa.CompressedOutputStream(str(packed), kind) as sink:
        sink.write(path.read_bytes())
    path.unlink()
    return packed


def unpacked(path: Path, kind: str) -> bytes:
    with pa.input_stream(str(path), compression=kind) as source:
        return bytes(source.read())


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "tsv"])
def test_packed_files_read_and_write_as_the_plain_ones(
    tmp_path: Path, format_: str, kind: str
) -> None:
    plain = write(tmp_path, format_)
    expected, content = read(plain, id="id"), plain.read_bytes()
    packed = pack(plain, kind)
    found = read(packed, id="id")
    assert found.ids.equals(expected.ids)
    assert found.text.equals(expected.text)
    assert found.labels.equals(expected.labels)
    raw = packed.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    found.write(out, "same", {})
    assert (out / f"same.{format_}{ENDINGS[kind]}").read_bytes() == raw
    found.write(out, "other", {0: "y"})
    changed = unpacked(out / f"other.{format_}{ENDINGS[kind]}", kind)
    assert changed != content
    assert changed.splitlines()[-1] == content.splitlines()[-1]


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_whole_run_on_a_packed_file(work: toy.Work, kind: str) -> None:
    content = work.data.read_bytes()
    packed = pack(work.data, kind)
    raw = packed.read_bytes()
    data = {"path": packed.name, "text": "text", "label": "label", "id": "id", "gold": "gold"}
    work.write_job(data=data)
    assert work.run("plan", str(work.job)).returncode == 0
    run = lr.relabel(work.job)
    assert run.summary["changed"] > 0
    out = work.run_folder / f"dataset.jsonl{ENDINGS[kind]}"
    rows = [json.loads(line) for line in unpacked(out, kind).splitlines()]
    given = [json.loads(line) for line in content.splitlines()]
    differing = [row for row, old in zip(rows, given, strict=True) if row != old]
    assert len(differing) == run.summary["changed"]
    assert work.run("rollback", str(work.run_folder), "--all").returncode == 0
    assert out.read_bytes() == raw
    assert packed.read_bytes() == raw


def test_ndjson_is_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl").rename(tmp_path / "d.ndjson")
    found = read(path)
    assert found.text.to_pylist()[0] == "one"
    found.write(tmp_path, "out", {0: "y"})
    assert (tmp_path / "out.ndjson").exists()


def test_a_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl.gz"
    rows = "".join(
        json.dumps({"text": f"number {row} {row * 7919 % 1000}", "label": "xy"[row % 2]}) + "\n"
        for row in range(3_000)
    )
    path.write_bytes(gzip.compress(rows.encode())[:-2_000])
    assert "damaged or cut off" in refused(path)
