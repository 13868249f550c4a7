"""MemoryStore holds to the contract, and the suite finds stores that do not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from paddock.contracts.providers import VectorStoreProvider
from paddock.testing.vector_store import MemoryStoreProvider, VectorStoreSuite

FAULTS = Path(__file__).with_name("vector_store_faults.py")


class TestMemoryStore(VectorStoreSuite):
    """The reference."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return MemoryStoreProvider()


def test_the_suite_finds_every_faulty_store() -> None:
    """A suite that can't fail proves nothing: each store with one fault must fail in it, and not everywhere."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfp", "--tb=no", "-p", "no:cacheprovider", str(FAULTS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=FAULTS.parents[1])
    assert run.returncode == 1, run.stdout[-2000:] + run.stderr
    names = re.findall(r"^class (\w+)\(MemoryStore\)", FAULTS.read_text(encoding="utf-8"), re.MULTILINE)
    for verdict in ("FAILED", "PASSED"):
        seen = set(re.findall(rf"^{verdict} \S+::Test(\w+)::", run.stdout, re.MULTILINE))
        assert seen == set(names)
