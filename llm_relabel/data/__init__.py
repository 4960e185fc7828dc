"""Datasets in and out: any supported format becomes Arrow columns, and goes back as it came."""

from llm_relabel.data.dataset import Dataset
from llm_relabel.data.reading import read_dataset, read_labeled

__all__ = ["Dataset", "read_dataset", "read_labeled"]
