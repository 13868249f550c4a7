"""What a body may not make a child do: read files outside of the model folders, load foreign code, set options unseen."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddock.errors import BadRequest
from paddock_llama_server.options import file_values
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Spec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LOADERS = re.compile(
    r"(?:LD_|DYLD_|PYTHON|PERL|RUBY|NODE_|JAVA_|BASH|GCONV_|GLIBC_|MALLOC_|OPENSSL_|LLAMA_|PADDOCK_|GIT_).*"
    r"|.*(?:_PATH|_PATHS|_PRELOAD|_FILENAMES|_INJECTION64|_LAYERS|_CONF|_CONFIG|_HOOK)|PATH|ENV|IFS|SHELL|HOME",
    re.IGNORECASE,
)


def environment_problem(name: str) -> str | None:
    """Why an instance may not set this variable, or None."""
    if not _NAME.fullmatch(name):
        return "is no name of an environment variable"
    if _LOADERS.fullmatch(name):
        return "can't be set for an instance: it could load foreign code or set options unseen; use the options by name"
    return None


def check_environment(environment: Mapping[str, str]) -> None:
    """Raises BadRequest naming the variable that may not be set."""
    for name, value in environment.items():
        problem = environment_problem(name)
        if problem is not None:
            raise BadRequest(f"environment.{name[:128]} {problem}")
        if "\x00" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise BadRequest(f"environment.{name} must be a text without a NUL")


def model_folders(
    settings: LlamaServerSettings, data_dir: Path, environ: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """The folders whose files may be named: the setting's, else the data folder's models, the hub cache and /models."""
    if settings.model_dirs:
        return tuple(Path(one).expanduser() for one in settings.model_dirs)
    home = environ.get("HF_HOME")
    hub = environ.get("HF_HUB_CACHE") or (str(Path(home) / "hub") if home else None)
    return (data_dir / "models", *((Path(hub),) if hub else ()), Path("/models"))


def check_files(spec: Spec, folders: Sequence[Path] | None) -> None:
    """Hold every path that a spec names against the folders (None: any will do, callers are not told apart).

    Raises BadRequest naming the option, and the setting that would permit it. Links are followed first.
    """
    for name, value in file_values(spec.options, spec.extra_args):
        path = Path(value)
        if not path.is_absolute():
            raise BadRequest(f"{name}: write the whole path of the file, beginning with /")
        if folders is None:
            continue
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            raise BadRequest(
                f"{name}: {value} is in none of the model folders: see the setting llama_server.model_dirs"
            )
