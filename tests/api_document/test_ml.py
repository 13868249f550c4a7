"""The ML API of the API document, and the Universal Runtime's classifiers and detectors."""

from typing import Any

ML = "http://localhost:8000/v1/ml"
RUNTIME = "http://localhost:8000/v1"
TYPED = '-H "Content-Type: application/json"'
TEMPERATURES = f"""curl -X POST {ML}/anomaly/fit \\
{TYPED} \\
-d '{{
"model": "sensor_anomaly_detector",
"backend": "isolation_forest",
"data": [
[22.1], [23.5], [21.8], [24.2], [22.7],
[23.1], [21.5], [24.8], [22.3], [23.9],
[21.2], [24.5], [22.8], [23.2], [21.9],
[24.1], [22.5], [23.7], [21.6], [24.3]
],
"contamination": 0.05
}}'"""
DETECT = f"""curl -X POST {ML}/anomaly/detect \\
{TYPED} \\
-d '{{
"model": "sensor_anomaly_detector-latest",
"backend": "isolation_forest",
"data": [[22.0], [23.5], [0.0], [21.5], [100.0], [24.0], [-10.0], [22.8], [35.0], [23.2]],
"threshold": 0.5
}}'"""
NUMERIC = {
    "model": "sensor-detector",
    "backend": "isolation_forest",
    "data": [[22.1, 1024], [23.5, 1100], [21.8, 980], [24.2, 1050], [22.7, 1080], [23.1, 990]],
    "contamination": 0.1,
    "overwrite": False,
}
MIXED = {
    "model": "api-monitor",
    "backend": "isolation_forest",
    "data": [
        {"response_time_ms": 100, "bytes": 1024, "method": "GET", "user_agent": "Mozilla/5.0"},
        {"response_time_ms": 105, "bytes": 1100, "method": "POST", "user_agent": "Chrome/90.0"},
    ],
    "schema": {"response_time_ms": "numeric", "bytes": "numeric", "method": "label", "user_agent": "hash"},
    "contamination": 0.1,
}
FITTED = {
    "object": "fit_result",
    "model": "sensor_anomaly_detector_20260102_202438",
    "backend": "isolation_forest",
    "samples_fitted": 30,
    "training_time_ms": 85.77,
    "model_params": {"backend": "isolation_forest", "contamination": 0.05, "threshold": 0.894, "input_dim": 1},
    "status": "fitted",
    "base_name": "sensor_anomaly_detector",
    "versioned_name": "sensor_anomaly_detector_20260102_202438",
    "overwrite": False,
}
SCORED = {
    "object": "list",
    "data": [{"index": 0, "score": 0.23, "is_anomaly": False, "raw_score": 0.12}],
    "summary": {"total_points": 5, "anomaly_count": 2, "anomaly_rate": 0.4, "threshold": 0.5},
}
DETECTED = {
    "object": "list",
    "data": [{"index": 2, "score": 0.61, "raw_score": 0.65}],
    "total_count": 4,
    "model": "sensor_anomaly_detector_20260102_202438",
    "backend": "isolation_forest",
    "summary": {"anomalies_detected": 4, "threshold": 0.5},
}

CLASSIFY = f"""curl -X POST {ML}/classifier/fit \\
{TYPED} \\
-d '{{
"model": "intent-classifier",
"training_data": [
{{"text": "I need to book a flight to NYC", "label": "booking"}},
{{"text": "Reserve a hotel room for me", "label": "booking"}},
{{"text": "Cancel my reservation please", "label": "cancellation"}},
{{"text": "I want to cancel my booking", "label": "cancellation"}},
{{"text": "What time does the flight leave?", "label": "inquiry"}},
{{"text": "How much does it cost?", "label": "inquiry"}},
{{"text": "I am very unhappy with the service", "label": "complaint"}},
{{"text": "This is unacceptable quality", "label": "complaint"}}
],
"num_iterations": 20
}}'"""
PREDICT = f"""curl -X POST {ML}/classifier/predict \\
{TYPED} \\
-d '{{
"model": "intent-classifier-latest",
"texts": [
"Book me a flight to Paris tomorrow",
"Cancel my upcoming trip",
"What are the check-in times?",
"This is absolutely terrible service"
]
}}'"""
CLASSIFIER = {
    "object": "fit_result",
    "model": "intent-classifier-test_20260102_202450",
    "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    "samples_fitted": 40,
    "num_classes": 4,
    "labels": ["booking", "cancellation", "complaint", "inquiry"],
    "training_time_ms": 6751.66,
    "status": "fitted",
    "auto_saved": True,
    "saved_path": "~/.llamafarm/models/classifier/intent-classifier-test_20260102_202450",
    "base_name": "intent-classifier-test",
    "versioned_name": "intent-classifier-test_20260102_202450",
    "overwrite": False,
}
PREDICTED = {
    "object": "list",
    "data": [
        {
            "text": "Book me a flight to Paris tomorrow",
            "label": "booking",
            "score": 0.66,
            "all_scores": {"booking": 0.66, "cancellation": 0.11, "complaint": 0.11, "inquiry": 0.13},
        }
    ],
    "total_count": 4,
    "model": "intent-classifier-test_20260102_202450",
}


async def ask(client: Any, method: str, path: str, body: Any = None) -> Any:
    """A request of the document that has no curl line; it must succeed."""
    reply = await client.server.ask(method, path, body)
    assert reply.status == 200, reply.body
    return reply.json()


async def test_the_temperature_example_finds_exactly_its_four_anomalies(bare: Any) -> None:
    done = await bare.good(TEMPERATURES)
    bare.fits(done, FITTED)
    assert done["model"] == done["versioned_name"] != done["base_name"] == "sensor_anomaly_detector"
    found = await bare.good(DETECT)
    bare.fits(found, DETECTED)
    assert [row["index"] for row in found["data"]] == [2, 4, 6, 8]
    assert (found["total_count"], found["model"]) == (4, done["model"])
    assert found["summary"] == {"anomalies_detected": 4, "threshold": 0.5}


async def test_numeric_rows_are_learnt_scored_saved_loaded_listed_and_deleted(bare: Any) -> None:
    done = await ask(bare, "POST", "/v1/ml/anomaly/fit", NUMERIC)
    bare.fits(done, FITTED)
    asked = {"model": "sensor-detector-latest", "backend": "isolation_forest"}
    rows = [[22.0, 1000], [23.5, 1100], [0.0, 0], [100.0, 9000], [21.5, 1000]]
    scored = await ask(bare, "POST", "/v1/ml/anomaly/score", {**asked, "data": rows, "threshold": 0.5})
    bare.fits(scored, SCORED)
    assert [row["index"] for row in scored["data"]] == [0, 1, 2, 3, 4]
    kept = {"model": done["model"], "backend": "isolation_forest"}
    saved = await ask(bare, "POST", "/v1/ml/anomaly/save", {**kept, "description": "the pump"})
    bare.fits(saved, {"object": "save_result", **kept, "path": "text", "status": "saved"})
    loaded = await ask(bare, "POST", "/v1/ml/anomaly/load", asked)
    bare.fits(loaded, {"object": "load_result", **kept, "status": "loaded"})
    assert loaded["model"] == done["model"]
    (item,) = (await ask(bare, "GET", "/v1/ml/anomaly/models"))["data"]
    assert (item["name"], item["base_name"], item["description"]) == (done["model"], "sensor-detector", "the pump")
    filename = f"{done['model']}_isolation_forest.pkl"
    deleted = await ask(bare, "DELETE", f"/v1/ml/anomaly/models/{filename}")
    bare.fits(deleted, {"object": "delete_result", "filename": "text", "deleted": True})
    assert (await ask(bare, "GET", "/v1/anomaly/models"))["total"] == 0


async def test_mixed_rows_are_learnt_with_their_schema(bare: Any) -> None:
    done = await ask(bare, "POST", "/v1/ml/anomaly/fit", MIXED)
    assert done["encoder"]["schema"] == MIXED["schema"]
    assert done["model_params"]["input_dim"] == 4
    scored = await ask(bare, "POST", "/v1/ml/anomaly/score", {"model": "api-monitor-latest", "data": MIXED["data"]})
    assert scored["total_count"] == 2
    bare_rows = await bare.server.ask("POST", "/v1/ml/anomaly/fit", {**MIXED, "schema": None})
    assert (bare_rows.status, "schema" in bare_rows.json()["detail"]) == (400, True)


async def test_the_runtimes_quick_example_runs(bare: Any) -> None:
    body = '{"model": "my-detector", "backend": "isolation_forest", "data": [[1,2],[3,4]]}'
    done = await bare.good(f"curl -X POST {RUNTIME}/anomaly/fit {TYPED} -d '{body}'")
    assert (done["model"], done["samples_fitted"], "versioned_name" in done) == ("my-detector", 2, False)
    body = '{"model": "my-detector", "data": [[1,2],[100,200]]}'
    found = await bare.good(f"curl -X POST {RUNTIME}/anomaly/detect {TYPED} -d '{body}'")
    assert (found["model"], found["backend"]) == ("my-detector", "isolation_forest")


async def test_the_intent_classifier_is_learnt_used_saved_loaded_listed_and_deleted(bare: Any) -> None:
    done = await bare.good(CLASSIFY)
    bare.fits(done, CLASSIFIER)
    assert (done["samples_fitted"], done["labels"]) == (8, CLASSIFIER["labels"])
    assert done["model"] == done["versioned_name"] != done["base_name"] == "intent-classifier"
    found = await bare.good(PREDICT)
    bare.fits(found, PREDICTED)
    assert [row["label"] for row in found["data"]] == ["booking", "cancellation", "inquiry", "complaint"]
    name = done["model"]
    saved = await ask(bare, "POST", "/v1/ml/classifier/save", {"model": name})
    bare.fits(saved, {"object": "save_result", "model": name, "path": "text", "status": "saved"})
    loaded = await ask(bare, "POST", "/v1/ml/classifier/load", {"model": "intent-classifier-latest"})
    bare.fits(loaded, {"object": "load_result", "model": name, "status": "loaded"})
    assert loaded["model"] == name
    listed = await ask(bare, "GET", "/v1/ml/classifier/models")
    bare.fits(listed, {"object": "list", "data": [{"name": name, "labels": ["booking"]}]})
    await ask(bare, "DELETE", f"/v1/ml/classifier/models/{name}")
    assert (await ask(bare, "GET", "/v1/classifier/models"))["total"] == 0


async def test_the_runtimes_classifier_learns_from_one_example_a_label(bare: Any) -> None:
    body = """{
"model": "intent-classifier",
"training_data": [
{"text": "Book a flight", "label": "booking"},
{"text": "Cancel my order", "label": "cancellation"}
]
}"""
    done = await bare.good(f"curl -X POST {RUNTIME}/classifier/fit {TYPED} -d '{body}'")
    assert (done["model"], done["samples_fitted"], "versioned_name" in done) == ("intent-classifier", 2, False)
    body = '{"model": "intent-classifier", "texts": ["I need to reserve a room"]}'
    found = await bare.good(f"curl -X POST {RUNTIME}/classifier/predict {TYPED} -d '{body}'")
    bare.fits(
        found, {"object": "list", "data": [{"text": "t", "label": "l", "score": 0.5, "all_scores": {"booking": 0.5}}]}
    )
