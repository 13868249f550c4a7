"""Codes of languages: ISO 639-1 to the names that the engines use."""

from __future__ import annotations

from collections.abc import Iterable

# What PP-OCRv6 reads; its own names differ from the codes for a few.
PADDLE: dict[str, str] = {
    **{code: code for code in (
        "af", "az", "bs", "ca", "cs", "cy", "da", "de", "en", "es", "et", "eu", "fi", "fr", "ga", "gl", "hr", "hu", "id",
        "is", "it", "ku", "la", "lb", "lt", "lv", "mi", "ms", "mt", "nl", "no", "oc", "pl", "pt", "qu", "rm", "ro", "sk",
        "sl", "sq", "sv", "sw", "tl", "tr", "uz", "vi",
    )},
    "zh": "ch", "zh-tw": "chinese_cht", "ja": "japan", "sr-latn": "rs_latin",
}  # fmt: skip

# Tesseract's names are mostly those of ISO 639-2.
TESSERACT: dict[str, str] = {
    "af": "afr", "am": "amh", "ar": "ara", "as": "asm", "az": "aze", "be": "bel", "bn": "ben", "bo": "bod", "bs": "bos",
    "br": "bre", "bg": "bul", "ca": "cat", "cs": "ces", "zh": "chi_sim", "zh-tw": "chi_tra", "co": "cos", "cy": "cym",
    "da": "dan", "de": "deu", "dv": "div", "dz": "dzo", "el": "ell", "en": "eng", "eo": "epo", "et": "est", "eu": "eus",
    "fo": "fao", "fa": "fas", "fi": "fin", "fr": "fra", "fy": "fry", "gd": "gla", "ga": "gle", "gl": "glg", "gu": "guj",
    "ht": "hat", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "hy": "hye", "iu": "iku", "id": "ind", "is": "isl",
    "it": "ita", "jv": "jav", "ja": "jpn", "kn": "kan", "ka": "kat", "kk": "kaz", "km": "khm", "ky": "kir", "ko": "kor",
    "lo": "lao", "la": "lat", "lv": "lav", "lt": "lit", "lb": "ltz", "ml": "mal", "mr": "mar", "mk": "mkd", "mt": "mlt",
    "mn": "mon", "mi": "mri", "ms": "msa", "my": "mya", "ne": "nep", "nl": "nld", "no": "nor", "oc": "oci", "or": "ori",
    "pa": "pan", "pl": "pol", "pt": "por", "ps": "pus", "qu": "que", "ro": "ron", "ru": "rus", "sa": "san", "si": "sin",
    "sk": "slk", "sl": "slv", "sd": "snd", "es": "spa", "sq": "sqi", "sr": "srp", "sr-latn": "srp_latn", "su": "sun",
    "sw": "swa", "sv": "swe", "ta": "tam", "tt": "tat", "te": "tel", "tg": "tgk", "th": "tha", "ti": "tir", "to": "ton",
    "tr": "tur", "ug": "uig", "uk": "ukr", "ur": "urd", "uz": "uzb", "vi": "vie", "yi": "yid", "yo": "yor",
}  # fmt: skip
_CODES = {own: code for code, own in TESSERACT.items()}
_NO_LANGUAGES = frozenset({"osd", "equ"})


def by_code(installed: Iterable[str]) -> dict[str, str]:
    """Tesseract's installed names by their codes; one without a code stands under itself."""
    return {_CODES.get(own, own): own for own in installed if own not in _NO_LANGUAGES}
