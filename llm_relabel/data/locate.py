"""What `data.path` names: a file by its ending, a saved dataset folder, or a name on the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llm_relabel.config.job import CONLL_SUFFIXES, DataSection
from llm_relabel.data.compressed import format_of
from llm_relabel.data.conll_files import ConllFile
from llm_relabel.data.csv_files import CsvFile
from llm_relabel.data.json_files import JsonArray, JsonLines
from llm_relabel.data.source import Source
from llm_relabel.data.unsupported import looks_like_a_file, refusal
from llm_relabel.errors import DataError, nearest


def open_source(section: DataSection, resolve: Callable[[str], Path]) -> Source:
    """The source that a job's data section names. Raises DataError where there is none."""
    path = resolve(section.path)
    if path.is_dir() and section.image is not None:
        from llm_relabel.data.voc_folders import ANNOTATIONS, VocFolder
        from llm_relabel.data.yolo_folders import ABOUT, YoloFolder

        if (path / ABOUT).is_file():
            pictures = path if section.image_folder is None else resolve(section.image_folder)
            return YoloFolder(path, section.split, pictures)
        if (path / ANNOTATIONS).is_dir():
            return VocFolder(path)
    if path.is_dir():
        from llm_relabel.data.hub_datasets import saved_dataset

        return saved_dataset(path, section)
    if path.is_file():
        return _file(path, section)
    if looks_like_a_file(section.path):
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"the dataset {section.path!r} does not exist{nearest(path.name, beside)}; relative "
            f"paths start at the job file, so {str(path)!r} was looked for"
        )
    from llm_relabel.data.hub_datasets import hub_dataset

    return hub_dataset(section)


def _file(path: Path, section: DataSection) -> Source:
    try:
        refused = refusal(path)
    except OSError as error:
        raise DataError(f"the dataset {path.name!r} cannot be read: {error}") from error
    if refused is not None:
        raise DataError(f"the dataset {path.name!r} {refused}")
    suffix = format_of(path)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(path, section.encoding)
    if suffix == ".json" and section.image is not None and path.suffix == ".json":
        from llm_relabel.data.coco_files import CocoFile, is_coco

        if is_coco(path):
            return CocoFile(path, section.encoding)
    if suffix == ".json":
        return JsonArray(path, section.encoding)
    if suffix in CONLL_SUFFIXES:
        return ConllFile(path, section.encoding)
    if suffix in (".csv", ".tsv"):
        return CsvFile(path, section)
    if suffix == ".spacy":
        from llm_relabel.data.docbin_files import DocBinFile

        return DocBinFile(path)
    if suffix == ".xlsx":
        from llm_relabel.data.xlsx_files import XlsxFile

        return XlsxFile(path, section)
    from llm_relabel.data.parquet_files import ParquetFile

    return ParquetFile(path)
