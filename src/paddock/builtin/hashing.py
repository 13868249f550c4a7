"""The hashing embedder: vectors from words and their letters, without a model, a download or a training.

A word counts by its stem (Porter's, the one that SQLite's full-text index uses too), and by the character n-grams of the
stem, which bring misspelt and related words near each other. Each feature is added to the vector at places, and with
signs, that a hash of it chooses; a feature's weight grows with the logarithm of how often it occurs. English function
words weigh a tenth and everyday words the half, because nothing else here knows how rare a word is. Vectors have
length 1, so cosine and dot product agree. The same text gives the same vector on every machine and in every process.
"""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from paddock.contracts.providers import Embedder, TextKind, TypeName, Vectors
from paddock.errors import FieldError, ValidationFailed

__all__ = ["HashingConfig", "HashingEmbedder"]

VERSION = 1  # raise it whenever a vector changes: it is part of the fingerprint
STOP_WEIGHT = 0.1  # of function words
COMMON_WEIGHT = 0.5  # of words that every text has
WORD_LENGTH = 40  # longer runs of letters are cut: base64 is not a word
CACHED_STEMS = 50_000  # about 20 MB in each of
CACHED_TABLES = 4  # one for each set of options

STOP_WORDS = frozenset(
    """a about above after again against all also although always am among an and another any anyone are as at be became
    because been before being below between both but by can cannot could did do does doing done down during each either
    else etc even ever every few find first for found from further get given gives go had has have having he her here
    hers him his how however i if in into is it its itself just last less like made make makes many may me might more
    most much must my near neither never no nor not now of off often on once one only onto or other others our out over
    own per perhaps quite rather s same second several shall she should since so some such t than that the their them
    then there therefore these they this those three through throughout thus to together too toward two under until up
    upon us use used uses using very via was way we well were what when where whether which while who whom whose why will
    with within without would yet you your""".split()  # noqa: SIM905  170 words read better as text
)
COMMON_WORDS = frozenset(
    """able accord account act action actual add additional age ago allow almost alone along already amount answer
    appear apply approach appropriate area arise around ask assume available average away back bad base basic become
    begin believe best better big body book bring build call came car care carry case cause certain change child
    choose city class clear close come common company compare complete concern condition consider contain continue
    control correct cost country course cover create current cut data day deal decide deep define depend describe
    design detail determine develop development difference different difficult direct discuss discussion door due
    early easy effect end enough entire especially establish estimate event exact example exist expect experience
    explain extend face fact fall family far feel field figure final fine follow force form four free full function
    future general give good great group grow half hand happen hard head hear help high hold home hour house human
    hundred idea important improve include increase indicate individual information interest involve issue job keep
    kind know known large late later lead learn leave left let letter level lie life light likely line list little
    live local long look lose lot low main man manner matter mean means measure member mention method mind minute
    moment money month morning move name nature necessary need new next night normal note number object observe
    obtain occur offer office old open order original page paper part particular party pass past pay people perform
    period person place plan play point policy position possible power practical practice present previous probably
    problem procedure process produce program prove provide public purpose put question range rate reach read real
    reason receive recent reduce refer relate relation relative remain report represent require research respect
    rest result return right role room rule run said say school section see seem sense separate series serve service
    set short show side similar simple simply single situation six size small social solution solve sort special
    specific stand standard start state stay still story student study subject suggest suitable support sure system
    table take talk tell ten term test theory thing think thought time today told total trade treat true try turn
    type understand unit useful usual value various view wait walk want war water week white whole wide wish woman
    word work world write wrong year young""".split()  # noqa: SIM905  as above
)
WORD = re.compile(r"[^\W_]+")
# Scripts written without spaces: a run of them is read as overlapping pairs of characters.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


class HashingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of HashingEmbedder. All but `batch_size` change the vectors.

    A greater `dimension` separates words better and costs memory and time (Cranfield nDCG@10 of the vectors alone: 256
    0.269, 384 0.291, 512 0.313, 1024 0.319). `ngram_weight` is the share of the character n-grams (0: words only).
    """

    dimension: Annotated[int, Meta(ge=64, le=4096)] = 512
    ngram_min: Annotated[int, Meta(ge=2, le=8)] = 3
    ngram_max: Annotated[int, Meta(ge=2, le=8)] = 4
    ngram_weight: Annotated[float, Meta(ge=0, le=2)] = 0.4
    batch_size: Annotated[int, Meta(ge=1, le=4096)] = 256


class HashingEmbedder(Embedder):
    """Deterministic vectors without a model; twenty thousand chunks of 600 characters a second on one core, a thousand of words
    that it never met."""

    types = (TypeName("HashingEmbedder", HashingConfig),)

    def __init__(self, cached_stems: int = CACHED_STEMS) -> None:
        self._cached_stems = cached_stems
        self._features: dict[str, _Features] = {}

    async def embed_batch(self, texts: Sequence[str], config: HashingConfig, kind: TextKind) -> Vectors:  # noqa: ARG002  documents and queries are treated alike
        """Vectors of length 1, never all zero, not even for an empty text. Runs in a thread."""
        return await asyncio.to_thread(self.vectors, texts, config)

    def vectors(self, texts: Sequence[str], config: HashingConfig) -> Vectors:
        """What `embed_batch` returns, in the caller's thread."""
        space = self.fingerprint(config)
        features = self._features.pop(space, None) or _Features(config, self._cached_stems)
        self._features[space] = features  # the last used stands last
        for oldest in list(self._features)[:-CACHED_TABLES]:
            self._features.pop(oldest, None)
        return features.vectors(texts)

    def fingerprint(self, config: HashingConfig) -> str:
        """Names every option that changes the vectors, and the version of the method."""
        grams = f"{config.ngram_min}-{config.ngram_max}x{config.ngram_weight:g}"
        return f"{self.name}:{VERSION}:{config.dimension}:{grams}"

    def warn(self, type_name: str, config: HashingConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """A range upside down is refused; lengths of n-grams that weigh nothing are worth a warning."""
        if config.ngram_max < config.ngram_min:
            raise ValidationFailed.of([FieldError("ngram_max", f"must be at least ngram_min ({config.ngram_min})")])
        if config.ngram_weight == 0 and (config.ngram_min, config.ngram_max) != (3, 4):
            yield "ngram_min, ngram_max: without effect while ngram_weight is 0"


def words(text: str) -> list[str]:
    """The words of a text, lower-cased; one token at least, so that no text is without a vector."""
    text = text.lower()
    found = WORD.findall(text if text.isascii() else UNSPACED.sub(_pairs, text))
    return found or [text.strip() or " "]


def _pairs(run: re.Match[str]) -> str:
    letters = run.group()
    return f" {' '.join(letters[at : at + 2] for at in range(max(1, len(letters) - 1)))} "


def _stemmer() -> Callable[[str], str]:
    """SQLite's Porter stemmer, which drops accents too."""
    import apsw  # noqa: PLC0415  only when something is embedded

    tokenize = apsw.Connection(":memory:").fts5_tokenizer("porter", ["unicode61"])

    def stem(word: str) -> str:
        tokens = tokenize(word.encode("utf-8", "replace"), apsw.FTS5_TOKENIZE_DOCUMENT, None)
        return " ".join(str(token[-1]) for token in tokens) or word

    return stem


class _Features:
    """The features of the stems met so far: a table that grows, and is begun anew when it is full.

    Stem n owns the entries from `starts[n]` to `starts[n + 1]` of `places` (where in the vector) and `values` (signed
    weight). The lock is held for a batch: two threads would only take turns in the interpreter anyway.
    """

    def __init__(self, config: HashingConfig, cached_stems: int) -> None:
        self._config = config
        self._limit = cached_stems
        self._lock = threading.Lock()
        self._stem: Callable[[str], str] | None = None
        self._weights: dict[str, float] = {}
        self._clear()

    def _clear(self) -> None:
        self._words: dict[str, int] = {}
        self._stems: dict[str, int] = {}
        self._starts = array("q", [0])
        self._places = array("q")
        self._values = array("d")

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """One vector of length 1 for each text."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        with self._lock:
            if self._stem is None:
                self._stem = _stemmer()
                self._weights = dict.fromkeys(map(self._stem, COMMON_WORDS), COMMON_WEIGHT)
                self._weights |= dict.fromkeys(map(self._stem, STOP_WORDS), STOP_WEIGHT)
            if len(self._stems) > self._limit or len(self._words) > 4 * self._limit:
                self._clear()
            ids = array("q")
            lengths = [self._collect(text, ids, self._stem) for text in texts]
            sums = self._sums(np.frombuffer(ids, dtype=np.int64), lengths)
        norms = np.sqrt((sums * sums).sum(axis=1))
        sums[norms == 0, 0] = 1.0  # features may cancel out, in theory
        norms[norms == 0] = 1.0
        return np.ascontiguousarray(sums / norms[:, None], dtype=np.float32)

    def _collect(self, text: str, ids: array[int], stem: Callable[[str], str]) -> int:
        """Append the stem of each word; returns how many."""
        known = self._words.get
        before = len(ids)
        tokens = words(text)
        ids.extend([found if (found := known(word)) is not None else self._learn(word, stem) for word in tokens])
        return len(ids) - before

    def _sums(self, ids: Any, lengths: Sequence[int]) -> Any:
        """Add up, in float64: for each text and each of its stems, (1 + log count) times the stem's features."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        rows, dimension = len(lengths), self._config.dimension
        keys = np.repeat(np.arange(rows, dtype=np.int64), lengths) * len(self._stems) + ids
        pairs, counts = np.unique(keys, return_counts=True)
        row, stem = np.divmod(pairs, len(self._stems) or 1)
        starts = np.frombuffer(self._starts, dtype=np.int64)
        first, size = starts[stem], starts[stem + 1] - starts[stem]
        # The entries of all stems one after another: an index that runs from `first` for `size` steps, stem by stem.
        entry = np.arange(size.sum()) + np.repeat(first - (np.cumsum(size) - size), size)
        value = np.frombuffer(self._values)[entry] * np.repeat(1.0 + np.log(counts), size)
        place = np.frombuffer(self._places, dtype=np.int64)[entry] + np.repeat(row * dimension, size)
        return np.bincount(place, weights=value, minlength=rows * dimension).reshape(rows, dimension)

    def _learn(self, word: str, stemmed: Callable[[str], str]) -> int:
        """The number of a word's stem; a new stem's features go into the table."""
        stem = stemmed(word[:WORD_LENGTH])
        number = self._stems.get(stem)
        if number is None:
            number = self._stems[stem] = len(self._stems)
            for text, value in self._parts(stem):
                digest = _mixed(zlib.crc32(text.encode("utf-8", "replace")))
                self._places.append((digest >> 1) % self._config.dimension)
                self._values.append(value if digest & 1 else -value)
            self._starts.append(len(self._places))
        if len(word) <= WORD_LENGTH:
            self._words[word] = number
        return number

    def _parts(self, stem: str) -> Iterator[tuple[str, float]]:
        """The features of a stem: the word itself in two places (fewer accidents than in one), and its n-grams."""
        weight = self._weights.get(stem, 1.0)
        yield f"1 {stem}", weight / 2**0.5
        yield f"2 {stem}", weight / 2**0.5
        share = self._config.ngram_weight * weight
        if share == 0 or weight <= STOP_WEIGHT:
            return
        padded = f"<{stem}>"
        lengths = range(self._config.ngram_min, self._config.ngram_max + 1)
        grams = [padded[at : at + size] for size in lengths for at in range(len(padded) - size + 1)]
        for gram in grams:
            yield f"g {gram}", share / len(grams) ** 0.5


def _mixed(checksum: int) -> int:
    """Spread a CRC-32, whose bits hang together for similar texts, over 32 independent ones (the end of MurmurHash 3)."""
    checksum = ((checksum ^ checksum >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    checksum = ((checksum ^ checksum >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return checksum ^ checksum >> 16
