"""A graph with its tokenizer, loaded: padded token numbers in, one array out. Everything here blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.importing.tokenizer import check_tokenizer, padding_id, read_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Ids = NDArray[np.int64]
    Array = NDArray[np.float32]

OUTPUTS = ("sentence_embedding", "logits", "last_hidden_state", "token_embeddings")  # the first that a graph has
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})


class Session:
    """`dimensions` of the output: 3 for one vector a token, 2 for one a text. `padding` is the padding token's number."""

    def __init__(self, runtime: Any, tokenizer: Tokenizer, padding: int) -> None:
        self._runtime = runtime
        self._running: Any = None  # the options of the last run
        self.tokenizer = tokenizer
        self.padding = padding
        self._inputs = {one.name for one in runtime.get_inputs()}
        outputs = [one.name for one in runtime.get_outputs()]
        self._output = next((name for name in OUTPUTS if name in outputs), outputs[0])
        if "input_ids" not in self._inputs or not self._inputs <= INPUTS:
            raise ValidationFailed(
                f"the graph asks for {', '.join(sorted(self._inputs))[:200]}: it is no encoder of texts"
            )

    @classmethod
    def open(cls, folder: Path, graph: Path, *, providers: Sequence[str], threads: int) -> Session:
        """Load. `providers` are execution providers by name, `threads` 0 every core. Raises ValidationFailed for damaged
        files, ProviderUnavailable listing the available providers."""
        tokenizer, padding = _tokenizer(folder)
        return cls(_runtime(graph, providers, threads), tokenizer, padding)

    def run(self, ids: Ids, mask: Ids, kinds: Ids | None = None) -> Array:
        """The output for a padded batch; `kinds` are the token types, 0 where they are not given. Raises ProviderUnavailable,
        also for a run that `stop` ended."""
        import numpy as np  # noqa: PLC0415  heavy: on first use
        import onnxruntime  # noqa: PLC0415  as above

        given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            given["token_type_ids"] = np.zeros_like(ids) if kinds is None else kinds
        if "position_ids" in self._inputs:
            given["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)
        feed = {name: value for name, value in given.items() if name in self._inputs}
        options = self._running = onnxruntime.RunOptions()
        options.log_severity_level = 4
        try:
            return np.asarray(self._runtime.run([self._output], feed, options)[0], dtype=np.float32)
        except Exception as error:
            if options.terminate:
                raise ProviderUnavailable(
                    "a run of the model took longer than onnx.timeout_seconds and was ended: send less text, or raise the setting"
                ) from error
            raise ProviderUnavailable(f"the model can't be run: {_sentence(error)}") from error

    def stop(self) -> None:
        """End the run under way at its next operator; from any thread."""
        if self._running is not None:
            self._running.terminate = True


def _tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    from tokenizers import Tokenizer  # noqa: PLC0415  heavy: on first use

    text = read_tokenizer(folder)
    check_tokenizer(text)
    made = Tokenizer.from_str(text)
    made.no_padding()
    made.no_truncation()
    return made, padding_id(text)


def _runtime(graph: Path, providers: Sequence[str], threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415  heavy: on first use

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are for others too
    chosen = chosen_providers(providers, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=chosen)
    except Exception as error:
        raise ValidationFailed(f"the model's ONNX file can't be loaded: {_sentence(error)}") from error


def chosen_providers(asked: Sequence[str], available: Sequence[str]) -> list[str]:
    """The full names of the execution providers asked for, the CPU behind them. Raises ProviderUnavailable for one that this
    build of ONNX Runtime lacks, listing what it has."""
    known: Mapping[str, str] = {
        key.lower(): name for name in available for key in (name, name.removesuffix("ExecutionProvider"))
    }
    missing = [name for name in asked if name.lower() not in known]
    if missing:
        raise ProviderUnavailable(
            f"the execution provider {missing[0]!r} (setting onnx.providers) is not available; available: "
            f"{', '.join(available)}. Others come with another build of onnxruntime (onnxruntime-gpu, onnxruntime-openvino)"
        )
    return list(dict.fromkeys([*(known[name.lower()] for name in asked), "CPUExecutionProvider"]))


def _sentence(error: Exception) -> str:
    """The first line of what ONNX Runtime says, without the paths in it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(word for word in lines[0].split() if "/" not in word)[:300]
