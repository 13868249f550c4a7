"""Texts of a llamafarm.yaml, and short forms of what a look at one found."""

from collections.abc import Callable
from typing import Any

from paddock.services.project_checks import Checked

Look = Callable[[str], Checked]

MODELS = "runtime:\n  models:\n    - {name: a, provider: extractive, model: extractive}\n"
RAG = """\
rag:
  databases:
    - name: main
      type: ChromaStore
      embedding_strategies:
        - {name: e, type: HashingEmbedder}
      retrieval_strategies:
        - {name: r, type: BasicSimilarityStrategy}
"""


def fields(checked: Checked) -> list[str]:
    """The paths of the errors."""
    return [error.field for error in checked.errors]


def only(checked: Checked) -> tuple[str, str]:
    """The one error."""
    assert len(checked.errors) == 1, checked.errors
    return checked.errors[0].field, checked.errors[0].reason


def good(checked: Checked) -> Any:
    """The configuration, which must have no errors."""
    assert checked.errors == []
    return checked.config
