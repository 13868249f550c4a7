"""The section ``onnx`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class OnnxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text models run. `providers` are ONNX Runtime's execution providers, the preferred first (``CUDA``, ``CoreML``,
    ``OpenVINO``, or the full names); none: the CPU. `threads` 0: every core. A model that nobody used for `idle_seconds` is
    unloaded, and the least recently used ones go when all together need more than `memory_mb`. `max_texts` and
    `max_text_chars` bound one request, `batch_tokens` one run of a model, `max_model_mb` the weights of one model. A model is
    tried in a process of its own before it is loaded the first time, for at most `timeout_seconds`; each run ends after them."""

    providers: tuple[str, ...] = ()
    threads: Count = 0
    idle_seconds: Positive = 300
    memory_mb: Positive = 4096
    max_texts: Positive = 2048
    max_text_chars: Positive = 200_000
    batch_tokens: Positive = 1024
    max_model_mb: Positive = 8192
    timeout_seconds: Positive = 120
