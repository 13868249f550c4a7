"""The section ``hub`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]
# What paddock never reads: pickles, the weights of other frameworks, further optimised copies of the same ONNX graph.
SKIPPED = (
    "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.h5", "*.msgpack", "*.ot", "*.tflite",
    "openvino/*", "coreml/*", "onnx/model_o?.onnx",
)  # fmt: skip


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where models come from. `token` is sent to `endpoint` only; `cdn_hosts` are where `endpoint` may redirect to
    (``*.name``, or ``host:port``). `skip`: names of files that are not fetched. `max_bytes` bounds one download;
    `stall_timeout` in seconds without a byte; `retries` are attempts in a row without progress, `retry_delay` the first wait in
    seconds, doubling. Partial files are kept for `keep_partial_hours`, to be resumed."""

    endpoint: str = "https://huggingface.co"
    token: str = ""
    offline: bool = False
    cdn_hosts: tuple[str, ...] = ("*.huggingface.co", "*.hf.co")
    skip: tuple[str, ...] = SKIPPED
    max_bytes: Annotated[int, msgspec.Meta(ge=1)] = 200 * 1024**3
    stall_timeout: Seconds = 60
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5
    retry_delay: Annotated[float, msgspec.Meta(ge=0)] = 1
    keep_partial_hours: Annotated[float, msgspec.Meta(ge=0)] = 168
