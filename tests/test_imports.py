"""What loading costs: heavy libraries come with their first use; layers import downward only."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import paddock

HEAVY = (
    "numpy", "onnxruntime", "usearch", "tantivy", "kreuzberg", "aiohttp", "pydantic", "httpx", "ollama", "rich",
    "semantic_text_splitter", "re2", "psutil", "sklearn", "cv2", "rapidocr", "PIL", "pypdfium2",
    "onnx", "tokenizers", "prometheus_client", "jwt",
    "argon2", "scipy", "skl2onnx",
)  # fmt: skip

# Ground floor first: a module imports only from the floors above its own line here, or from its own.
FLOORS = (
    ("errors",),
    ("contracts",),
    ("resources", "settings", "replies"),
    ("access",),
    ("storage",),
    ("logs", "meter"),
    ("outgoing",),
    ("builtin",),
    ("openapi",),
    ("plugins",),
    ("services",),
    ("streams", "proxying", "sockets"),
    ("patience",),
    ("limits",),
    ("gate", "routes"),
    ("app",),
    ("server",),
    ("cli", "__main__"),
    ("reference", "testing"),
)
ROOT = Path(paddock.__file__).parent


def test_a_server_that_was_built_has_imported_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom paddock.server import build\n"
        f"build(overrides={{'server': {{'data_dir': {str(tmp_path)!r}}}}})\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def floor_of(module: str) -> int | None:
    """The number of the floor of ``paddock.x.y``; None for paddock itself."""
    parts = module.split(".")
    if len(parts) < 2:
        return None
    return next(number for number, names in enumerate(FLOORS) if parts[1] in names)


def module_of(path: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = frozenset(map(module_of, ROOT.rglob("*.py")))


def imports_of(path: Path) -> list[str]:
    """Every paddock module that a file imports, also inside functions, except for types only."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(inner) for node in typing_only for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "paddock":
            found += [
                module if (module := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("paddock.")]
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_downward_only(path: Path) -> None:
    own = (
        floor_of(".".join(("paddock", *path.relative_to(ROOT).with_suffix("").parts)))
        if path.name != "__init__.py" or path.parent != ROOT
        else None
    )
    if own is None:
        return
    upward = [name for name in imports_of(path) if (floor := floor_of(name)) is not None and floor > own]
    assert upward == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {module_of(path): imports_of(path) for path in ROOT.rglob("*.py")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_contracts_services_and_providers_know_nothing_of_the_framework(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in ("contracts", "services", "builtin", "storage"):
        assert "litestar" not in path.read_text(encoding="utf-8").lower()
