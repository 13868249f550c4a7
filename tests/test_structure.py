"""What a reader may rely on in every file: modules and functions of a size that can be read at once, exceptions with a reason."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULE = 400
FUNCTION = 60
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")])
FILES = sorted([*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/*/tests/**/*.py")])
EXCEPTION = re.compile(r"#\s*(?:type:\s*ignore|noqa)")
WITH_REASON = re.compile(r"# type: ignore\[[a-z, -]+\]  # \w|# noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*  \w")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def long_functions(text: str) -> list[str]:
    """The functions of more than `FUNCTION` lines, their decorators not counted."""
    return [
        f"{node.name} in line {node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION
    ]


def without_reason(text: str) -> Iterator[str]:
    """The comments that switch a check off and do not say which one and why."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            wanted, given = len(EXCEPTION.findall(token.string)), len(WITH_REASON.findall(token.string))
            if wanted != given:
                yield f"line {token.start[0]}: {token.string}"


def test_there_are_files_to_look_at() -> None:
    assert {"src/paddock/app.py", "plugins/openai/src/paddock_openai/__init__.py"} <= set(map(named, SOURCES))
    assert named(Path(__file__)) in map(named, FILES)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_module_and_its_functions_can_be_read_at_once(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE
    assert long_functions(text) == []


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_check_that_is_switched_off_says_which_and_why(path: Path) -> None:
    assert list(without_reason(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # noqa",
        "x = 1  # noqa: E501",
        "x = 1  # type: ignore",
        "x = 1  # type: ignore[misc]",
        "x = 1  # type: ignore  # why",
        "x = 1  # type: ignore[misc]  # noqa: E501  why",
    ],
)
def test_an_exception_without_a_name_or_a_reason_is_found(line: str) -> None:
    assert list(without_reason(line)) == [f"line 1: {line.removeprefix('x = 1  ')}"]


def test_an_exception_with_name_and_reason_passes() -> None:
    assert (
        list(without_reason("x = 1  # noqa: E501, S101  why\ny = 2  # type: ignore[misc]  # why\nz = '# noqa'")) == []
    )


@pytest.mark.parametrize(("lines", "found"), [(FUNCTION, 0), (FUNCTION + 1, 1)])
def test_a_function_that_is_too_long_is_found(lines: int, found: int) -> None:
    assert len(long_functions("def f():\n" + "    x = 1\n" * (lines - 1))) == found
