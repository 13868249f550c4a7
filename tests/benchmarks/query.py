"""Hybrid queries over 100,000 chunks through HTTP, with the hashing embedder, beside the same without derived indexes.

    python tests/benchmarks/query.py CRANFIELD_FOLDER [--chunks 100000]

The chunks are sentences of Cranfield's abstracts, the queries its 225 questions.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from pathlib import Path

from common import ask, folder, goal, server


def sentences(path: Path, wanted: int) -> list[str]:
    """Sentences of the abstracts; repeated with a number in front until there are enough."""
    text = (path / "cran.all.1400").read_text(encoding="latin-1")
    bodies = re.findall(r"^\.W\n(.*?)(?=^\.I|\Z)", text, re.DOTALL | re.MULTILINE)
    found = [part.strip() for body in bodies for part in re.split(r"(?<= \.)\s", body) if len(part.split()) > 4]
    return [
        found[n % len(found)] if n < len(found) else f"{n // len(found)} {found[n % len(found)]}" for n in range(wanted)
    ]


def questions(path: Path) -> list[str]:
    """The queries in file order."""
    text = (path / "cran.qry").read_text(encoding="latin-1")
    return [" ".join(body.split()) for body in re.findall(r"^\.W\n(.*?)(?=^\.I|\Z)", text, re.DOTALL | re.MULTILINE)]


def fill(url: str, texts: list[str]) -> float:
    """A project with all texts as rows of CSV files; returns the seconds of the processing task."""
    import json
    import subprocess
    import tempfile

    ask(url, "POST", "/v1/projects/bench", {"name": "big", "config_template": "rag"})
    config = ask(url, "GET", "/v1/projects/bench/big")["project"]["config"]
    config["rag"]["data_processing_strategies"] = [
        {"name": "rows", "parsers": [{"type": "CSVParser", "config": {"chunk_size": 1}}]}
    ]
    config["datasets"] = [
        {"name": "rows", "database": config["rag"]["databases"][0]["name"], "data_processing_strategy": "rows"}
    ]
    ask(url, "PUT", "/v1/projects/bench/big", {"config": config})
    with tempfile.TemporaryDirectory() as work:
        for number in range(0, len(texts), 2000):
            file = Path(work) / f"part-{number}.csv"
            rows = (text.replace('"', "'").replace("\n", " ") for text in texts[number : number + 2000])
            file.write_text("text\n" + "\n".join(f'"{row}"' for row in rows))
            target = f"{url}/v1/projects/bench/big/datasets/rows/data"
            subprocess.run(["curl", "-sf", "-o", "/dev/null", "-F", f"file=@{file}", target], check=True)
    start = time.perf_counter()
    action = ask(url, "POST", "/v1/projects/bench/big/datasets/rows/actions", {"action_type": "process"})
    while True:
        task = ask(url, "GET", f"/v1/projects/bench/big/tasks/{action['task_id']}")
        if task["state"] in ("SUCCESS", "FAILURE"):
            assert task["state"] == "SUCCESS", json.dumps(task)[:2000]
            return time.perf_counter() - start
        time.sleep(0.2)


def median_ms(url: str, asked: list[str], strategy: str) -> float:
    """The median of the round trips, in milliseconds."""
    times = []
    for text in asked:
        start = time.perf_counter()
        ask(
            url,
            "POST",
            "/v1/projects/bench/big/rag/query",
            {"query": text, "top_k": 10, "retrieval_strategy": strategy},
        )
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def indexed(url: str) -> float:
    """Wait until the derived indexes hold every chunk; returns the seconds that took."""
    start = time.perf_counter()
    while True:
        stats = ask(url, "GET", "/v1/projects/bench/big/rag/stats")
        indexes = stats["metadata"]["indexes"]
        if all(indexes[name]["up_to"] >= stats["chunk_count"] for name in ("vectors", "texts")):
            return time.perf_counter() - start
        time.sleep(1)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("cranfield", type=Path)
    options.add_argument("--chunks", type=int, default=100_000)
    given = options.parse_args()
    asked = questions(given.cranfield)
    with folder() as data:
        with server(data) as child:
            seconds = fill(child.url, sentences(given.cranfield, given.chunks))
            goal("ingest through HTTP, chunks a second", given.chunks / seconds, 2000, least=True)
            print(f"  derived indexes level {indexed(child.url):.0f} s later")
            median_ms(child.url, asked[:50], "hybrid")
            fast = {name: median_ms(child.url, asked, name) for name in ("hybrid", "semantic", "bm25")}
        with server(data, {"PADDOCK_SQLITE_VEC__FAST": "false"}) as child:
            median_ms(child.url, asked[:5], "hybrid")
            slow = {name: median_ms(child.url, asked[:50], name) for name in fast}
    goal("hybrid query over HTTP, p50", fast["hybrid"], 8, unit=" ms")
    for name, value in fast.items():
        print(f"  {name}: {value:.2f} ms; without derived indexes {slow[name]:.1f} ms, ratio {slow[name] / value:.1f}")


if __name__ == "__main__":
    main()
