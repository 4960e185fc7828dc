"""What tasks have in common whose items are texts, and whose judge speaks of all of an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from llm_relabel.images import ImagePart
from llm_relabel.records import Item
from llm_relabel.units import LabelValue


class WholeItems:
    """The part of the seam that such a task takes over as it is; see `task.Task`."""

    inputs: Literal["text", "image"] = "text"
    policy = "fuse"

    def asked(self, candidates: Sequence[LabelValue]) -> frozenset[str] | None:  # noqa: ARG002
        return None

    def settled(self, label: LabelValue, candidates: Sequence[LabelValue]) -> LabelValue:  # noqa: ARG002
        return label

    def anchored(self, label: LabelValue, known: Sequence[LabelValue]) -> LabelValue:  # noqa: ARG002
        return label

    def posed(self, item: Item, candidates: Sequence[LabelValue]) -> Item:  # noqa: ARG002
        return item

    def told_without(self, item: Item) -> LabelValue:  # noqa: ARG002
        return None

    def images(self, item: Item) -> tuple[ImagePart, ...]:  # noqa: ARG002
        return ()

    def about(self, item: Item | None) -> dict[str, Any]:  # noqa: ARG002
        return {}
