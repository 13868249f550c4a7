"""Make the tiny Donut of this folder: a real one, overfitted on two pictures of receipts, exported by Optimum.

paddock needs none of this script's packages; give it an environment of its own::

    python -m venv VENV
    VENV/bin/pip install torch optimum-onnx accelerate pillow    # made with 2.14, 0.1, 1.15, 13.0 and transformers 4.57
    PYTHONHASHSEED=0 VENV/bin/python plugins/extraction/tests/tiny_donut/make.py

It draws `receipt.png` (upright) and `invoice.png` (wide), trains for a minute on one processor until the model writes every
target by a clear margin, and replaces the rest. The same versions make the same bytes (without the hash seed, Optimum names
merged weights otherwise each time):

model/                   what ``optimum-cli export onnx --task image-to-text-with-past`` leaves of it, without the traces of the
                         machine; both ways of a decoder with a cache, merged and in two files
expected.json            for each picture and task what transformers itself does: the tokens of its ``generate``, the logits of
                         the first steps, the text, and the fields of its ``token2json``
receipt.pixels.png, …    the pixels that transformers' own image processor gives the model, before normalisation

The two pictures keep their bytes when they exist, so that another Pillow draws no other expectations.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import tokenizers
import torch
import transformers
from optimum.exporters.onnx import main_export
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

HERE = Path(__file__).parent
HEIGHT, WIDTH, LONGEST, HIDDEN = 128, 96, 96, 24
STEPS = 4  # decode steps whose logits are kept
MARGIN = 6.0  # between the logits of the likeliest and the second token, everywhere
ROUNDS = 4000

LINES = {
    "receipt": ("HARBOUR TEA", "", "Tea         2.50", "Bread       3.10", "", "TOTAL       5.60"),
    "invoice": ("CITY MUSEUM  Invoice 17", "Ticket            12.00", "TOTAL             12.00"),
}
SIZES = {"receipt": (240, 360), "invoice": (400, 220)}
QUESTION = "<s_question>{}</s_question><s_answer>"
TARGETS = {
    "receipt": {
        "<s_cord-v2>": "<s_menu><s_nm>Tea</s_nm><s_price>2.50</s_price><sep/><s_nm>Bread</s_nm><s_price>3.10</s_price></s_menu>"
        "<s_total><s_total_price>5.60</s_total_price></s_total>",
        "<s_docvqa>" + QUESTION.format("Who sells?"): "Harbour Tea</s_answer>",
        "<s_docvqa>" + QUESTION.format("What is the total?"): "5.60</s_answer>",
        "<s_rvlcdip>": "<s_class><receipt/></s_class>",
    },
    "invoice": {
        "<s_cord-v2>": "<s_menu><s_nm>Ticket</s_nm><s_price>12.00</s_price></s_menu>"
        "<s_total><s_total_price>12.00</s_total_price></s_total>",
        "<s_docvqa>" + QUESTION.format("Who sells?"): "City Museum</s_answer>",
        "<s_docvqa>" + QUESTION.format("What is the total?"): "12.00</s_answer>",
        "<s_rvlcdip>": "<s_class><invoice/></s_class>",
    },
}
TEXTS = ("Harbour Tea", "City Museum", "Bread", "Ticket", "Who sells?", "What is the total?")
PARTS = ("▁T", "ea", "▁the", "ou", ".00", "is")
TAGS = ("menu", "nm", "price", "total", "total_price", "question", "answer", "class")
MORE = ("<s_cord-v2>", "<s_docvqa>", "<s_rvlcdip>", "<sep/>", "<receipt/>", "<invoice/>")


def draw(name: str) -> Path:
    """A picture of a receipt, unless it is there."""
    path = HERE / f"{name}.png"
    if not path.exists():
        page = PIL.Image.new("L", SIZES[name], 250)
        pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(size=26)
        for row, line in enumerate(LINES[name]):
            pen.text((16, 24 + 52 * row), line, fill=20, font=font)
        page.save(path, optimize=True)
    return path


def new_processor() -> Any:
    """Donut's processor: its image processor, and a fast tokenizer of XLM-R's kind with a few pieces of words."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    signs = sorted({*"0123456789.?", *"".join(TEXTS).replace(" ", "")})
    pieces = [
        *((one, 0.0) for one in special),
        ("▁", -3.0),
        *((one, -4.0) for one in signs),
        *((one, -5.0) for one in PARTS),
    ]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = transformers.XLMRobertaTokenizerFast(tokenizer_object=made)
    tags = [f"<{slash}s_{tag}>" for tag in TAGS for slash in ("", "/")]
    tokenizer.add_special_tokens({"additional_special_tokens": [*MORE, *tags]})
    images = transformers.DonutImageProcessor(size={"height": HEIGHT, "width": WIDTH})
    return transformers.DonutProcessor(images, tokenizer)


def new_model(tokenizer: Any) -> Any:
    """Swin with shifted windows in front of MBart, both as small as they can be and still do everything."""
    encoder = transformers.DonutSwinConfig(
        image_size=[HEIGHT, WIDTH], patch_size=4, embed_dim=HIDDEN // 2, depths=[1, 2], num_heads=[2, 4], window_size=4,
        mlp_ratio=1.0, drop_path_rate=0.0,
    )  # fmt: skip
    decoder = transformers.MBartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=LONGEST, d_model=HIDDEN, decoder_layers=2, decoder_ffn_dim=HIDDEN,
        decoder_attention_heads=4, encoder_layers=2, encoder_attention_heads=4,  # Optimum looks at the encoder's
        dropout=0.0, is_decoder=True, add_cross_attention=True, scale_embedding=True, add_final_layer_norm=True,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = tokenizer.convert_tokens_to_ids("<s_cord-v2>")
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = transformers.VisionEncoderDecoderModel(config)
    given = ("decoder_start_token_id", "pad_token_id", "eos_token_id")
    model.generation_config = transformers.GenerationConfig(
        max_length=LONGEST, forced_eos_token_id=2, **{name: getattr(config, name) for name in given}
    )
    return model


def cases() -> Iterable[tuple[str, str, str]]:
    """Picture, prompt, and what is to be written behind it."""
    return ((name, prompt, text) for name, by_prompt in TARGETS.items() for prompt, text in by_prompt.items())


def train(model: Any, pixels: Mapping[str, Any], tokenizer: Any) -> None:
    """Until every token of every target is far ahead of the others, on pictures with noise. Raises RuntimeError."""
    rows = []
    for name, prompt, text in cases():
        asked = tokenizer(prompt, add_special_tokens=False).input_ids
        whole = [*asked, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append((name, whole, len(asked)))
    longest = max(len(whole) for _, whole, _ in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    wanted = torch.full((len(rows), longest), -100)
    for at, (_, whole, asked) in enumerate(rows):
        ids[at, : len(whole)] = torch.tensor(whole)
        wanted[at, asked : len(whole)] = torch.tensor(whole[asked:])
    stacked = torch.cat([pixels[name] for name, _, _ in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for turn in range(ROUNDS):
        noise = 0.1 * torch.randn_like(stacked) + 0.1 * torch.randn(len(rows), 1, 1, 1)
        logits = model(pixel_values=stacked + noise, decoder_input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if turn % 50 == 49:
            least = margin(logits.detach(), wanted[:, 1:])
            print(f"{turn + 1:5} loss {loss.item():.4f} least margin {least:.2f}", flush=True)
            if least > MARGIN:
                return
    raise RuntimeError(f"the margins are still below {MARGIN} after {ROUNDS} rounds")


def margin(logits: Any, wanted: Any) -> float:
    """The least lead of a wanted token over the best other one; below zero when one is not the likeliest."""
    counted = wanted >= 0
    logits, wanted = logits[counted], wanted[counted]
    own = logits.gather(1, wanted[:, None])[:, 0]
    others = logits.scatter(1, wanted[:, None], float("-inf")).max(dim=1).values
    return float((own - others).min())


def expected(model: Any, pixels: Mapping[str, Any], processor: Any) -> list[dict[str, Any]]:
    """What transformers does for each picture and prompt."""
    found = []
    for name, prompt, text in cases():
        ids = processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        reply = model.generate(  # it switches gradients off itself
            pixels[name],
            decoder_input_ids=ids,
            do_sample=False,
            bad_words_ids=[[processor.tokenizer.unk_token_id]],
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens, least = reply.sequences[0].tolist(), margin(torch.cat(reply.logits), reply.sequences[0, ids.shape[1] :])
        again = processor.tokenizer(prompt + text, add_special_tokens=False).input_ids
        if tokens != [*again, processor.tokenizer.eos_token_id] or least < MARGIN / 2:
            raise RuntimeError(f"{name}, {prompt}: {processor.tokenizer.decode(tokens)} by {least:.2f}")
        written = processor.tokenizer.decode(tokens[:-1])
        found.append({
            "picture": name,
            "prompt": prompt,
            "prompt_ids": ids[0].tolist(),
            "tokens": tokens[ids.shape[1] :],
            "text": written,
            "fields": processor.token2json(written.partition(">")[2]),
            "least_margin": round(least, 2),
            "logits": [[round(float(value), 5) for value in step[0]] for step in reply.logits[:STEPS]],
        })  # fmt: skip
    return found


def export(model: Any, processor: Any, target: Path) -> None:
    """Save, let Optimum export, keep what counts."""
    with tempfile.TemporaryDirectory() as work:
        saved, made = Path(work, "saved"), Path(work, "made")
        model.save_pretrained(saved)
        processor.save_pretrained(saved)
        main_export(str(saved), made, task="image-to-text-with-past", do_validation=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in sorted(made.iterdir()):
            if path.suffix == ".onnx":
                graph = onnx.load(path)
                forget(graph)
                (target / path.name).write_bytes(graph.SerializeToString(deterministic=True))
            elif path.suffix == ".json":
                shutil.copyfile(path, target / path.name)


def forget(message: Any) -> None:
    """Take out of a graph, and of all in it, what exporters note of their machine: where in which file a node was written."""
    for field, value in list(message.ListFields()):
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                forget(item)


def main() -> None:
    """Make everything."""
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    processor = new_processor()
    pictures = {name: PIL.Image.open(draw(name)).convert("RGB") for name in TARGETS}
    pixels = {name: processor(one, return_tensors="pt").pixel_values for name, one in pictures.items()}
    for name, one in pixels.items():
        levels = (one[0].permute(1, 2, 0) * 0.5 + 0.5) * 255
        PIL.Image.fromarray(levels.round().to(torch.uint8).numpy()).save(HERE / f"{name}.pixels.png", optimize=True)
    model = new_model(processor.tokenizer)
    train(model.train(), pixels, processor.tokenizer)
    facts = {
        "made_with": {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__},
        "cases": expected(model.eval(), pixels, processor),
    }
    export(model, processor, HERE / "model")
    (HERE / "expected.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
