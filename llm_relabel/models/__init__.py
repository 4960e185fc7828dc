"""The small trained models: text to vectors, vectors to out-of-fold probabilities."""

from llm_relabel.models.encoder import Encoder
from llm_relabel.models.own_predictions import load_predictions
from llm_relabel.models.small_model import SmallModel

__all__ = ["Encoder", "SmallModel", "load_predictions"]
