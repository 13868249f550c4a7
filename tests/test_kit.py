"""The kit: its index says the truth, it costs nothing until it is used, and the README's plugin passes its own tests."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import paddock.testing
from paddock.testing.server import RunningServer
from paddock.testing.upstream import FakeUpstream

ROOT = Path(__file__).parents[1]
INDEX = inspect.getdoc(paddock.testing) or ""


def rows() -> list[tuple[str, str]]:
    """Each name of the index's tables with the module it stands beside."""
    found = []
    for line in INDEX.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and "paddock." in cells[2]:
            found += [(name, cells[2].strip("`")) for name in re.findall(r"`(\w+)`", cells[1])]
    return [(name, module) for name, module in found if name != "paddock_server"]


@pytest.mark.parametrize(("name", "module"), rows())
def test_what_the_index_names_is_there(name: str, module: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_the_index_names_every_suite() -> None:
    suites = set()
    for path in (ROOT / "src/paddock/testing").glob("*.py"):
        suites |= set(re.findall(r"^class (\w+Suite)\b", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert suites - {"SearchSuite"} == {name for name, _ in rows() if name.endswith("Suite")}


def test_a_pytest_run_that_uses_no_fixture_imports_next_to_nothing() -> None:
    code = (
        "import sys, pytest, pytest_asyncio\nbefore = set(sys.modules)\nimport paddock.testing.fixtures\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["paddock", "paddock.testing", "paddock.testing.fixtures"]


async def test_the_fixtures_run_a_server_and_an_upstream(
    paddock_server: RunningServer, paddock_upstream: FakeUpstream
) -> None:
    assert (await paddock_server.ask("GET", "/health/liveness")).json() == {"status": "alive"}
    async with paddock_server.session.get(f"{paddock_upstream.base_url}/models") as reply:
        assert reply.status == 200


def test_the_readmes_plugin_passes_the_readmes_tests(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "parrot.py").write_text(next(block for block in blocks if "class Parrot(" in block))
    (tmp_path / "test_parrot.py").write_text(next(block for block in blocks if "class TestParrot(" in block))
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\npythonpath = .\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 10
