"""Datasets of the `datasets` library: a saved folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_relabel.config.job import DataSection
from llm_relabel.data.nested import names_of_schema
from llm_relabel.data.parquet_files import (
    batch_of,
    batch_rows,
    class_names_of,
    paths_of,
    with_edits,
)
from llm_relabel.data.problems import Problems
from llm_relabel.data.saving import new_folder
from llm_relabel.data.source import Batch, Edits
from llm_relabel.errors import DataError, nearest


def saved_dataset(path: Path, section: DataSection) -> HubDataset:
    """A folder that `save_to_disk` wrote; of several splits, `data.split`."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the folder {section.path!r} is no saved dataset (`Dataset.save_to_disk`): {error}"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if section.split not in found:
            raise DataError(
                f"the saved dataset {section.path!r} has no split {section.split!r}"
                f"{nearest(section.split, found)}; set data.split to one of {', '.join(found)}"
            )
        return HubDataset(path.name, found[section.split], beside=path, split=section.split)
    return HubDataset(path.name, found)


def hub_dataset(section: DataSection) -> HubDataset:
    """A dataset by its Hugging Face name; no code of the dataset's own is run."""
    import datasets

    try:
        found = datasets.load_dataset(section.path, section.subset, split=section.split)
    except Exception as error:
        # The library raises from half a dozen packages; whatever it was, the data is not there.
        raise DataError(
            f"{section.path!r} is neither a file or folder here nor a dataset that can be loaded "
            f"from the Hugging Face hub ({type(error).__name__}: {error}); check data.path, "
            "data.subset and data.split"
        ) from error
    return HubDataset(section.path, found)


class HubDataset:
    """A memory-mapped `datasets.Dataset`; it is written as a folder for `load_from_disk`.

    Of a saved DatasetDict, the folder `beside`, this is the `split`; the others are written with it
    as they are.
    """

    suffix = ""
    unit = "row"

    def __init__(
        self, name: str, dataset: Any, *, beside: Path | None = None, split: str = ""
    ) -> None:
        self.name = name
        self._beside, self._split = beside, split
        # Selections live in an index beside the table; the rows must be in order for writing.
        self._dataset = dataset.flatten_indices() if dataset._indices is not None else dataset

    def batches(self, wanted: Sequence[str], problems: Problems) -> Iterator[Batch]:
        table = self._dataset.data.table
        paths = paths_of(table.schema, wanted, problems)
        chosen = table.select(list(dict.fromkeys(path[0] for path in paths.values())))
        size = batch_rows(len(table), chosen.nbytes)
        for start in range(0, len(table), size):
            yield batch_of(chosen.slice(start, size), start, wanted, paths)

    def columns(self) -> Sequence[str]:
        return list(names_of_schema(self._dataset.data.table.schema))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        return class_names_of(self._dataset.features.arrow_schema, column)

    def sha256(self) -> str | None:
        return None

    def save(self, target: Path, cells: Edits, sha256: str) -> None:  # noqa: ARG002 - a mapped table cannot change
        import datasets

        datasets.disable_progress_bars()
        table = with_edits(self._dataset.data.table, cells, 0)
        changed = datasets.Dataset(
            datasets.table.InMemoryTable(table), info=self._dataset.info, split=self._dataset.split
        )
        with new_folder(target) as folder:
            if self._beside is None:
                changed.save_to_disk(str(folder))
                return
            folder.mkdir()
            for found in self._beside.iterdir():
                if found.is_dir() and found.name != self._split:
                    shutil.copytree(found, folder / found.name)
                elif found.is_file():
                    shutil.copyfile(found, folder / found.name)
            changed.save_to_disk(str(folder / self._split))
