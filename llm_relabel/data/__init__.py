"""Datasets in and out: any supported format becomes Arrow columns, and goes back as it came."""

from llm_relabel.data.dataset import Dataset
from llm_relabel.data.reading import read_dataset, read_labeled
from llm_relabel.data.tables import rows_of_file

__all__ = ["Dataset", "read_dataset", "read_labeled", "rows_of_file"]
