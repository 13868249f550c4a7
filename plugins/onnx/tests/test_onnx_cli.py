"""`paddock models import` as people run it."""

import json
from pathlib import Path

import pytest
from onnx_kit import tiny

from paddock.cli import main


def test_a_folder_is_imported_and_the_next_step_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny(tmp_path / "source", task="ner")
    assert main(["models", "import", str(folder), "--name", "org/ner", "--data-dir", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert "Imported org/ner (ner" in said
    assert "/v1/ner" in said
    assert (tmp_path / "data" / "models" / "hub" / "models--org--ner" / "refs" / "main").is_file()


def test_with_json_the_figures_are_printed_and_int8_is_smaller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny(tmp_path / "source")
    sizes = []
    for more in ([], ["--quantize", "int8"]):
        assert main(["models", "import", str(folder), "--json", "--data-dir", str(tmp_path / "data"), *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["model"] == "source"
        sizes.append((Path(found["folder"]) / "onnx" / "model.onnx").stat().st_size)
    assert sizes[1] < sizes[0]


def test_what_is_no_model_ends_with_2_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "import", str(tmp_path), "--data-dir", str(tmp_path / "data")]) == 2
    assert "config.json is missing" in capsys.readouterr().err
