"""`init` can act on its own advice: every key that a message names is an option of it."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import toy
import yaml
from made_csv import INIT, csv_file

from llm_relabel.config.job import DataSection
from llm_relabel.data import read_dataset
from llm_relabel.errors import DataError

GERMAN = [
    ("Meine Rechnung ist zu hoch", "Rechnung"),
    ("Ich möchte kündigen", "Kündigung"),
    ("Wo ist das Paket für München?", "Versand"),
]


def test_what_german_excel_saves(work: toy.Work) -> None:
    lines = [f"{text} {row};{label}\r\n" for row in range(5) for text, label in GERMAN]
    path = work.folder / "tickets.csv"
    path.write_bytes(("Text;Kategorie\r\n" + "".join(lines)).encode("cp1252"))
    words = ("init", "tickets.csv", "--text", "Text", "--label", "Kategorie", "-o", "new")
    done = work.run(*words)
    assert done.returncode == 2
    assert "read as cp1252, that line is 'Ich möchte kündigen 0;Kündigung'" in done.stderr
    assert "set `data.encoding: cp1252` (`init --encoding cp1252`)" in done.stderr
    done = work.run(*words, "--encoding", "cp1252")
    assert done.returncode == 0, done.stderr
    assert "15 rows, 3 labels" in done.stdout
    job = yaml.safe_load((work.folder / "new" / "job.yaml").read_text(encoding="utf-8"))
    assert job["data"]["encoding"] == "cp1252"
    assert work.run("plan", "new/job.yaml").returncode == 0


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "plain words,x\n" * 40 + "it costs 5€ – “quoted”,y\n"),
        ("cp1252", "plain words,x\n" * 3000 + "café au lait,x\n"),
        ("cp1252", "le café est très bon,fr\nça va très bien,fr\n"),
        ("cp1250", "Gdzie jest moja paczka? Łóżko,pl\nProszę o zwrot pieniędzy,pl\n" * 5),
        ("cp1250", "žluťoučký kůň úpěl ďábelské ódy,cz\n" * 5),
        ("cp1251", "Где моя посылка,доставка\nВерните деньги,оплата\n" * 20),
        ("koi8_r", "Где моя посылка,доставка\nВерните деньги,оплата\n" * 20),
        (
            "shift_jis",
            "注文した荷物がまだ届きません。確認をお願いします,配送\n返金してください,支払い\n" * 20,
        ),
        ("gb18030", "我的包裹在哪里,物流\n请退款,付款\n" * 20),
        ("big5", "我的包裹在哪裡,物流\n請退款,付款\n" * 20),
        ("euc_kr", "소포가 어디에 있나요,배송\n" * 20),
        ("mac_roman", "le café est très bon,fr\nça va très bien,fr\n"),
    ],
)
def test_a_likely_encoding_is_named_with_a_sample(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(("text,label\n" + text).encode(encoding))
    section = DataSection(path=str(path), text="text", label="label")
    with pytest.raises(DataError) as caught:
        read_dataset(section, Path)
    first = next(line for line in text.splitlines() if not line.isascii())
    assert str(caught.value).endswith(
        f"read as {encoding}, that line is {first!r}; if this is right, set "
        f"`data.encoding: {encoding}`"
    )
    named = section.model_copy(update={"encoding": encoding})
    assert first.split(",")[0] in read_dataset(named, Path).text.to_pylist()


def test_bytes_that_are_no_text_get_no_guess_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b"text,label\n" + bytes(range(128, 256)) * 20 + b",x\n")
    with pytest.raises(DataError, match="not readable as utf-8"):
        read_dataset(DataSection(path=str(path), text="text", label="label"), Path)


@pytest.mark.parametrize("word", ["tab", "\\t", "\t"])
def test_a_delimiter(work: toy.Work, word: str) -> None:
    lines = ["text\tlabel", *(f"one, two, {row}\t{'ab'[row % 2]}" for row in range(24))]
    (work.folder / "data.csv").write_text("\n".join(lines) + "\n")
    done = work.run(*INIT, "--label", "label", "--delimiter", word)
    assert done.returncode == 0, done.stderr
    done = work.run(*INIT[:-1], "two", "--label", "label", "--delimiter", "::")
    assert done.returncode == 2
    assert "data.delimiter: must be one character" in done.stderr


def test_a_split_and_a_group(work: toy.Work) -> None:
    rows = {"text": [f"t {row}" for row in range(24)], "label": ["a", "b"] * 12,
            "doc": [row // 4 for row in range(24)]}  # fmt: skip
    splits = datasets.DatasetDict({"dev": datasets.Dataset.from_dict(rows)})
    splits.save_to_disk(str(work.folder / "saved"))
    words = ("init", "saved", "--text", "text", "--label", "label", "--group", "doc", "-o", "new")
    done = work.run(*words)
    assert done.returncode == 2
    assert "set data.split (`init --split`) to one of dev" in done.stderr
    done = work.run(*words, "--split", "dev")
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load((work.folder / "new" / "job.yaml").read_text())
    assert job["data"]["split"] == "dev"
    assert job["data"]["group"] == "doc"


def test_a_subset_is_handed_on(work: toy.Work) -> None:
    words = ("init", "no/such", "--text", "a", "--label", "b", "--subset", "en", "-o", "new")
    done = work.run(*words, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert "data.subset (`init --subset`)" in done.stderr


def test_skipped_lines_and_options_of_other_kinds(work: toy.Work) -> None:
    rows = [(f"t {row}", "ab"[row % 2]) for row in range(24)]
    path = csv_file(work.folder / "data.csv", [("text", "label"), *rows])
    path.write_text("A title\n" + path.read_text())
    done = work.run(*INIT, "--label", "label")
    assert done.returncode == 2
    assert done.stderr.count("--skip-lines") == 1
    assert work.run(*INIT, "--label", "label", "--skip-lines", "1").returncode == 0
