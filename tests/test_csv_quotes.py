"""Stray quotes and lines above the header: no row of a delimited file goes missing silently."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy
from data_files import read, refused

STRAY = 'a stray quote " swallows the delimiters and line ends after it'


def rows(count: int = 60, stray: tuple[int, ...] = (10, 20, 30, 40)) -> list[str]:
    quote = '" '
    return [
        f"{n}\t{quote if n in stray else ''}the plot number {n}\t{('neg', 'pos')[n % 2]}\n"
        for n in range(count)
    ]


def tsv(folder: Path, lines: list[str], name: str = "d.tsv") -> Path:
    path = folder / name
    path.write_text("id\ttext\tlabel\n" + "".join(lines))
    return path


def test_swallowed_rows_are_refused_with_their_lines(tmp_path: Path) -> None:
    told = refused(tsv(tmp_path, rows()))
    assert told == (
        f"the dataset 'd.tsv' cannot be used: 2 rows: {STRAY}; where quotes are plain text, set "
        "`data.quoting: none` (`init --quoting none`) (rows 11 (line 12 to 22); 21 (line 32 to 42))"
    )


def test_plain_quotes_are_read_and_written_as_they_are(tmp_path: Path) -> None:
    path = tsv(tmp_path, rows())
    data = read(path, quoting="none")
    assert len(data) == 60
    assert data.text[10].as_py() == '" the plot number 10'
    out = data.write(tmp_path, "out", {10: 'a"b', 11: '"neg"'})
    lines = rows()
    lines[10] = lines[10].replace("\tneg", '\ta"b')
    lines[11] = lines[11].replace("\tpos", '\t"neg"')
    assert out.read_text() == "id\ttext\tlabel\n" + "".join(lines)
    assert refused_write(data, {0: "a\tb"}) == (
        "the dataset 'd.tsv', row 1: the label 'a\\tb' holds a delimiter or a line end, which "
        "`data.quoting: none` cannot write"
    )


def refused_write(data, changes) -> str:
    with pytest.raises(Exception, match="cannot write") as caught:
        data.write(Path(data.source._file.path.parent), "out", changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        # closed by a quote at the end of a later cell
        ('a,x\n"b,y\nc",x\nd,y\n', "line 3 to 4"),
        ('a,x\n"b,y\nc,x\nd,y\ne",x\nf,y\n', "line 3 to 6"),
        # closed by the quote that opens a well quoted cell
        ('a,x\n"b,y\n"c, d",x\n', "line 3 to 4"),
        # within one line: the label ends in the text
        ('a,x\nb,y\n"c,x"\n', "line 4"),
        ('a,x\n"b,y" c\nd,x\n', "line 3"),
        # Windows and old Mac line ends
        ('a,x\r\n"b,y\r\nc" d,x\r\n', "line 3 to 4"),
        ('a,x\r"b,y\rc" d,x\r', "line 3 to 4"),
        # blank lines before it count
        ('a,x\n\n\n"b,y\nc",x\nd,y\n', "line 5 to 6"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_kinds_of_stray_quotes(tmp_path: Path, body: str, line: str, delimiter: str) -> None:
    path = tmp_path / "d.csv"
    end = "\r\n" if "\r\n" in body else body[3]
    body = f"text,label{end}{body}"
    path.write_text(body.replace(",", delimiter), newline="")
    told = refused(path)
    assert STRAY in told
    assert f"({line})" in told


def test_a_quote_that_never_closes_names_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('text,label\na,x\n"b,y\nc,x\n')
    assert refused(path).endswith(
        "`data.quoting: none` (`init --quoting none`) (row 2 (the file ends at line 4))"
    )
    assert len(read(path, quoting="none")) == 3


def test_texts_of_several_lines_are_no_stray_quotes(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(
        'text,label\n"Dear all,\nyes, of course,\nbye",x\n"one, two\nthree, four",y\n'
        '"he said ""no"", and\nwent, away",x\n"c",y\n"a, b" ,x\n'
    )
    data = read(path)
    assert data.text.to_pylist()[:2] == ["Dear all,\nyes, of course,\nbye", "one, two\nthree, four"]
    assert len(data) == 5
    assert data.notes == ()


def test_what_may_be_a_swallowed_row_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "d.tsv"
    path.write_text('text\tlabel\na\tx\n"b\tnever seen\nc"\ty\n')
    (note,) = read(path).notes
    assert note.startswith("1 row: a cell holds whole rows")
    assert "(row 2 (line 3 to 4))" in note


def test_quotes_that_are_dropped_are_told(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('text,label\n"Heat" is dull,x\nb,y\n')
    data = read(path)
    assert data.text.to_pylist() == ["Heat is dull", "b"]
    assert "1 row: a cell goes on behind its closing quote" in data.notes[0]
    assert read(path, quoting="none").text[0].as_py() == '"Heat" is dull'


def test_quotes_escaped_by_a_backslash_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('text,label\n"he said \\"hi\\" to me",x\nb,y\n')
    assert "CSV doubles a quote instead" in refused(path)


@pytest.mark.parametrize(
    ("above", "told"),
    [
        ("sep=;\n", "line 1 is 'sep=;', by which a spreadsheet is told the delimiter"),
        ('"sep=;"\n', "by which a spreadsheet is told the delimiter"),
        ("SEP=\t\n", "by which a spreadsheet is told the delimiter"),
        ("Tickets of 2024\n", "the column names stand in line 2, and line 1 is 'Tickets of 2024'"),
        ("Tickets;;\n;;\nexported by;me;\n", "the column names stand in line 4"),
    ],
)
def test_lines_above_the_header(tmp_path: Path, above: str, told: str) -> None:
    path = tmp_path / "d.csv"
    body = "id;text;label\n1;a;x\n2;b;y\n"
    path.write_text(above + body)
    count = above.count("\n")
    message = refused(path)
    assert told in message
    assert f"set data.skip_lines: {count} (`init --skip-lines {count}`)" in message
    data = read(path, skip_lines=count)
    assert data.labels.to_pylist() == ["x", "y"]
    out = data.write(tmp_path, "out", {1: "z"})
    assert out.read_text() == above + body.replace("b;y", "b;z")


def test_init_refuses_and_follows_its_own_advice(work: toy.Work) -> None:
    tsv(work.folder, rows())
    words = ("init", "d.tsv", "--text", "text", "--label", "label", "-o", "new")
    done = work.run(*words)
    assert done.returncode == 2
    assert STRAY in done.stderr
    done = work.run(*words, "--quoting", "none")
    assert done.returncode == 0, done.stderr
    assert "60 rows, 2 labels" in done.stdout
    assert "quoting: none" in (work.folder / "new" / "job.yaml").read_text()


def test_warnings_reach_plan(work: toy.Work) -> None:
    lines = [f"i{row}\t{toy.text(row)}\t{toy.given(row)}\n" for row in range(toy.ROWS)]
    lines[3] = lines[3].replace("the", '"the"')
    (work.folder / "d.tsv").write_text("id\ttext\tlabel\n" + "".join(lines))
    work.write_job(data={"path": "d.tsv", "text": "text", "label": "label", "id": "id"})
    done = work.run("plan", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert "Warning: data 'd.tsv': 1 row: a cell goes on behind its closing quote" in done.stdout
