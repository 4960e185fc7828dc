"""The small trained models: a family a file, and `model.py`, the seam that they share."""

from llm_relabel.models.model import Predictions, SmallModel, TextModel

__all__ = ["Predictions", "SmallModel", "TextModel"]
