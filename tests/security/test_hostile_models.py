"""Bodies that no client would send, at the endpoints that models of this machine answer."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from paddock.testing.hostile import check_refusal, hostile_bodies
from tests.security.conftest import Target

PICTURE = base64.b64encode(b"P5 8 8 255 " + b"\xff" * 64).decode()
TABLE = [[float(row % 7), float(row % 5)] for row in range(20)]
DETECTOR = {"model": "walked", "backend": "local_outlier_factor"}
FIT = {**DETECTOR, "data": TABLE, "contamination": 0.1, "normalization": "zscore"}
SCORE = {**DETECTOR, "data": TABLE[:2], "threshold": 0.5, "normalization": "raw", "explain": True}
EXAMPLES = [{"text": "a cow", "label": "animal"}, {"text": "a ship", "label": "thing"}]
CLASSIFIER = {
    "model": "walked",
    "base_model": "hashing",
    "training_data": EXAMPLES,
    "num_iterations": 1,
    "batch_size": 4,
}
ROWS = [{"ms": row % 3, "method": "GET"} for row in range(8)]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "model": "extractive", "messages": [{"role": "user", "content": "a"}], "temperature": 1, "max_tokens": 5, "stop": ["x"],
        "think": False, "thinking_budget": 3, "x": 1,
    },
    "embeddings": {"model": "hashing", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8, "user": "u"},
    "models/download": {"model_name": "org/none:Q4_K_M", "provider": "universal"},
    "models/validate-download": {"model_name": "org/none", "provider": "universal"},
    "models/unload": {"model": "org/none"},
    "classifier/fit": CLASSIFIER,
    "ml/classifier/fit": {**CLASSIFIER, "overwrite": True, "description": "d"},
    "classifier/predict": {"model": "walked", "texts": ["a cow"]},
    "ml/classifier/save": {"model": "walked", "description": "d"},
    "classifier/load": {"model": "walked"},
    "anomaly/fit": FIT,
    "ml/anomaly/fit": {**FIT, "data": ROWS, "schema": {"ms": "numeric", "method": "label"}, "overwrite": True},
    "anomaly/score": SCORE,
    "ml/anomaly/detect": SCORE,
    "anomaly/save": DETECTOR,
    "ml/anomaly/load": DETECTOR,
    "ocr": {"model": "tesseract", "images": [PICTURE], "languages": ["en"], "return_boxes": True},
    "documents/extract": {"model": "org/none", "images": [PICTURE], "prompts": ["q"], "task": "vqa"},
}  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
async def test_no_value_in_any_place_of_a_body_breaks_the_server(target: Target, path: str) -> None:
    for fit in ("classifier/fit", "anomaly/fit") if path.partition("/")[2] in ("predict", "score", "detect") else ():
        made = await target.ask("POST", f"/v1/{fit}", json.loads(json.dumps(BODIES[fit])))
        assert made.status == 200, made.body
    folder = str(target.server.app.settings.data_dir)
    for what, body in hostile_bodies(BODIES[path]):
        reply = await target.ask("POST", f"/v1/{path}", data=io.BytesIO(body))
        check_refusal(reply, what, folder)
