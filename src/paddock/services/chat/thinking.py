"""Reasoning that a model writes between ``<think>`` tags at the start of its answer, told apart from the answer."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Splits one answer that arrives in pieces, cut anywhere. Only a tag at the very start counts."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        # In the states opened and after the line breaks behind a tag are dropped.
        self._state = "start"  # start, opened, thinking, after, answer
        self._held = ""

    def concerns(self, text: str) -> bool:
        """Whether `feed` would change this piece; when not, it need not be called."""
        if self._state == "answer":
            return False
        if self._state == "start" and not self._held:
            begun = text.lstrip()
            if begun and not begun.startswith(OPEN) and not OPEN.startswith(begun):
                self._state = "answer"
                return False
            return bool(text)
        return True

    def feed(self, text: str) -> tuple[str, str]:
        """The reasoning and the answer in this piece; the beginning of a possible tag is held back."""
        if self._state == "answer":
            return "", text
        text, self._held = self._held + text, ""
        if self._state == "start":
            begun = text.lstrip()
            if begun.startswith(OPEN):
                self._state, text = "opened", begun[len(OPEN) :]
            elif OPEN.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._state = "answer"
                return "", text
        if self._state == "opened":
            text = text.lstrip("\n")
            self._state = "thinking" if text else "opened"
        if self._state in ("opened", "thinking"):
            return self._thinking(text)
        return "", self._after(text)

    def _thinking(self, text: str) -> tuple[str, str]:
        reasoning, closed, answer = text.partition(CLOSE)
        if closed:
            self._state = "after"
            return reasoning.rstrip("\n"), self._after(answer)
        keep = held_back(text, CLOSE)
        # Line breaks before the closing tag belong to neither part.
        while keep < len(text) and text[len(text) - keep - 1] == "\n":
            keep += 1
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def _after(self, text: str) -> str:
        text = text.lstrip()
        if text:
            self._state = "answer"
        return text

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return (held, "") if self._state in ("opened", "thinking") else ("", held)


def held_back(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)


def split_thinking(text: str) -> tuple[str, str]:
    """The reasoning and the answer of a whole text."""
    splitter = ThinkSplitter()
    first, second = splitter.feed(text), splitter.flush()
    return first[0] + second[0], first[1] + second[1]
