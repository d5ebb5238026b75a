"""What does a GGUF file say of a tokenizer, and which tokenizers can it say it of?

Three kinds are known to both sides: byte-level BPE (`gpt2`), BPE over characters with bytes for what is unknown, as
SentencePiece makes it (`llama`), and WordPiece (`bert`). llama.cpp has the regular expressions that cut texts into
words built in, each under a name: a tokenizer whose expression is none of them is refused. Sources: llama.cpp
`src/llama-vocab.cpp` and `conversion/base.py`, November 2026; huggingface/tokenizers for `tokenizer.json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.compress.gguf_metadata import Pairs
from weighbridge.errors import ConfigError
from weighbridge.prove.engines import folder

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""`llama_token_type` of llama.h."""
SPACE = "\u2581"
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
         "chat_template.jinja")  # fmt: skip
"""What is read beside `config.json`."""
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls",
           "mask": "mask"}  # fmt: skip
"""llama.cpp's word for each special token; it spells the separator so."""
_GPT2, _DIGITS = "the words of GPT-2", "each digit"
_CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
_MARKED = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
           r"\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
CUTS: dict[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",
    ((_DIGITS, _GPT2), False): "smollm",
    ((_CUT % r"\p{N}{1,3}",), True): "llama-bpe",
    ((_CUT % r"\p{N}{1,3}",), False): "smaug-bpe",
    ((_CUT % r"\p{N}",), False): "qwen2",
    ((_MARKED,), False): "qwen35",
    ((_CASED % ("", "", ""),), True): "tekken",
    ((_CASED % (_ENDINGS, _ENDINGS, "{1,3}"),), False): "gpt-4o",
}
"""llama.cpp's name for what cuts a text into words, and for whether a whole word is looked up before it is merged."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NFC = "texts are brought into Unicode's form NFC by the tokenizer, and not by llama.cpp"
_FIRST = "a text that begins with a space gets another one from llama.cpp, and none from the tokenizer"
_LEFT_OUT = -10_000.0
Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Files:
    """What a folder says of its tokenizer."""

    path: Path
    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    settings: Mapping[str, Any]
    special: Mapping[str, Any]
    generation: Mapping[str, Any]

    @property
    def model(self) -> Mapping[str, Any]:
        """How words become tokens."""
        found = self.tokenizer.get("model")
        return found if isinstance(found, Mapping) else {}

    @property
    def vocabulary(self) -> dict[str, int]:
        """The number of each token, with those that were added."""
        words = self.model.get("vocab")
        given = dict(words) if isinstance(words, Mapping) else {}
        given |= {str(one.get("content")): one.get("id") for one in self.added}
        if not given or not all(type(number) is int and number >= 0 for number in given.values()):
            raise self.refusal("no list of tokens with their numbers", "one")
        return given

    @property
    def added(self) -> list[Mapping[str, Any]]:
        """Tokens that texts are searched for before all else."""
        return [one for one in _list(self.tokenizer.get("added_tokens")) if isinstance(one, Mapping)]

    def refusal(self, read: str, expected: str) -> ConfigError:
        """What cannot be said in a GGUF file."""
        return ConfigError(f"the tokenizer of {self.path} has {read}", expected,
                           "convert the model with llama.cpp's own converter, or name another")  # fmt: skip

    def id_of(self, kind: str, vocabulary: Mapping[str, int]) -> int | None:
        """The number of a special token: by its text where that is said, or else by the number in a configuration."""
        for source in (self.settings, self.special):
            text = source.get(f"{kind}_token")
            text = text.get("content") if isinstance(text, Mapping) else text
            if isinstance(text, str) and text in vocabulary:
                return vocabulary[text]
        for source in (self.config, self.generation):
            number = source.get(f"{kind}_token_id")
            number = number[0] if isinstance(number, list) and number else number
            if type(number) is int and 0 <= number < len(vocabulary):
                return number
        return None


def tokenizer_of(path: Path, config: Mapping[str, Any], rows: int) -> tuple[Pairs, tuple[str, ...]]:
    """The metadata of a folder's tokenizer, and notes on what llama.cpp does otherwise.

    Args:
        path: the folder, with a `tokenizer.json`.
        config: its `config.json`.
        rows: of the token table; tokens that the tokenizer lacks are filled up.

    Raises:
        ConfigError: when the tokenizer is none that llama.cpp has.
    """
    if not (path / FILES[0]).is_file():
        raise ConfigError(f"{path} has no {FILES[0]}", "a tokenizer of that form beside the weights",
                          "save it there, with `save_pretrained` of transformers")  # fmt: skip
    files = _Files(path, config, *(folder.read(path / name, dict) for name in FILES[:4]))
    kind, byte_fallback = str(files.model.get("type")), files.model.get("byte_fallback")
    kinds: dict[tuple[str, bool], Callable[[_Files], tuple[Pairs, Scores, tuple[str, ...]]]] = {
        ("BPE", False): _byte_level, ("BPE", True): _sentence_piece, ("WordPiece", False): _word_piece,
    }  # fmt: skip
    make = kinds.get((kind, bool(byte_fallback)))
    if make is None:
        raise files.refusal(f"the model {kind}", "BPE or WordPiece")
    found, scores, notes = make(files)
    found |= _tokens(files, rows, scores, is_word_piece=kind == "WordPiece")
    found |= _special(files, is_word_piece=kind == "WordPiece")
    template = _template(files)
    if template:
        found["tokenizer.chat_template"] = "string", template
    return found, notes


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _steps(given: Any, inside: str) -> list[Mapping[str, Any]]:
    """The parts of a normalizer or of what is like it, in their order."""
    if not isinstance(given, Mapping):
        return []
    if given.get("type") == "Sequence":
        return [step for one in _list(given.get(inside)) for step in _steps(one, inside)]
    return [given]


def _merges(files: _Files) -> list[tuple[str, str]]:
    found = []
    for one in _list(files.model.get("merges")):
        pair = one.split(" ", 1) if isinstance(one, str) else one
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise files.refusal(f"the merge {str(one)[:40]!r}", "two tokens")
        found.append((pair[0], pair[1]))
    return found


def _byte_level(files: _Files) -> tuple[Pairs, Scores, tuple[str, ...]]:
    """BPE over bytes, each written as a letter."""
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if files.model.get(key):
            raise files.refusal(f"{key} = {str(files.model[key])[:40]!r}", "none")
    normalizers = [one.get("type") for one in _steps(files.tokenizer.get("normalizer"), "normalizers")]
    if normalizers not in ([], ["NFC"]):
        raise files.refusal(f"the normalizer {', '.join(map(str, normalizers))}", "none, or NFC")
    merges = _merges(files)
    if bad := next((pair for pair in merges if " " in pair[0] + pair[1]), None):
        raise files.refusal(f"the merge {bad}, with a space", "bytes written as letters")
    found: Pairs = {
        "tokenizer.ggml.model": ("string", "gpt2"), "tokenizer.ggml.pre": ("string", _cut(files)),
        "tokenizer.ggml.merges": ("string", [" ".join(pair) for pair in merges]),
    }  # fmt: skip
    return found, {}, (_NFC,) if normalizers else ()


def _cut(files: _Files) -> str:
    """llama.cpp's name for how texts are cut into words."""
    steps = _steps(files.tokenizer.get("pre_tokenizer"), "pretokenizers")
    expected = f"one that llama.cpp has under a name: {', '.join(CUTS.values())}"
    if not steps or steps[-1].get("type") != "ByteLevel":
        raise files.refusal("no ByteLevel at the end of its pre_tokenizer", expected)
    if steps[-1].get("add_prefix_space"):
        raise files.refusal("add_prefix_space, a space before each text", "none")
    named = []
    for one in steps[:-1]:
        pattern = one.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        if one.get("type") == "Digits" and one.get("individual_digits") is True:
            named.append(_DIGITS)
        elif one.get("type") == "Split" and one.get("behavior") == "Isolated" and not one.get("invert") and expression:
            named.append(str(expression))
        else:
            raise files.refusal(f"the pre_tokenizer {one.get('type')}", expected)
    if steps[-1].get("use_regex", True):
        named.append(_GPT2)
    found = CUTS.get((tuple(named), bool(files.model.get("ignore_merges"))))
    if found is None:
        read = f"a pre_tokenizer that cuts by {' and '.join(named)}"
        if (tuple(named), not files.model.get("ignore_merges")) in CUTS:
            read += f", with ignore_merges = {bool(files.model.get('ignore_merges'))}"
        raise files.refusal(read, expected)
    return found


def _sentence_piece(files: _Files) -> tuple[Pairs, Scores, tuple[str, ...]]:
    """BPE over characters with bytes for what is unknown."""
    prefix, escapes = False, False
    notes: tuple[str, ...] = ()
    steps = _steps(files.tokenizer.get("normalizer"), "normalizers")
    steps += _steps(files.tokenizer.get("pre_tokenizer"), "pretokenizers")
    for one in steps:
        kind, pattern = one.get("type"), one.get("pattern")
        if kind == "Prepend" and one.get("prepend") == SPACE:
            prefix = True
        elif kind == "Replace" and pattern == {"String": " "} and one.get("content") == SPACE:
            escapes = True
        elif kind == "Metaspace" and one.get("replacement") == SPACE and one.get("split") is False:
            scheme = one.get("prepend_scheme", "always" if one.get("add_prefix_space", True) else "never")
            escapes = True
            if scheme != "never":
                prefix, notes = True, (_FIRST,)
        elif not (kind == "Split" and pattern == {"String": " "} and escapes):  # no space is left there to split at
            raise files.refusal(f"the step {kind}", f"spaces that become {SPACE}, and nothing else")
    if not escapes:
        raise files.refusal("spaces as they are", f"spaces that become {SPACE}")
    vocabulary = files.vocabulary
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary]:
        raise files.refusal(f"no token for the byte {missing[0]}", "a token for each byte")
    found: Pairs = {
        "tokenizer.ggml.model": ("string", "llama"), "tokenizer.ggml.pre": ("string", "default"),
        "tokenizer.ggml.add_space_prefix": ("bool", prefix),
    }  # fmt: skip
    return found, _ranks(files, vocabulary), notes


def _ranks(files: _Files, vocabulary: Mapping[str, int]) -> dict[str, float]:
    """A score for each token, the larger the sooner it is merged.

    llama.cpp merges any two neighbours that are a token together, by the score of that token; the tokenizer those that
    stand in a list. The two agree where the list has every pair that makes a token, and a token's pairs in one run.
    """
    added = {str(one.get("content")) for one in files.added}
    expected = "merges as SentencePiece makes them, which follow from a rank of each token"
    scores: dict[str, float] = {}
    pairs, last = set(), ""
    for rank, (left, right) in enumerate(_merges(files)):
        token = left + right
        pairs.add((left, right))
        if token in added:
            continue
        if token != last and token in scores:
            raise files.refusal(f"the merges of {token!r} apart from each other", expected)
        scores.setdefault(token, float(-rank))
        last = token
    for token in vocabulary:
        if token in added or _BYTE.fullmatch(token):
            continue
        for cut in range(1, len(token)):
            if token[:cut] in vocabulary and token[cut:] in vocabulary and (token[:cut], token[cut:]) not in pairs:
                raise files.refusal(f"no merge of {token[:cut]!r} and {token[cut:]!r}", expected)
        scores.setdefault(token, float(-len(pairs)))
    return scores


def _word_piece(files: _Files) -> tuple[Pairs, Scores, tuple[str, ...]]:
    """The longest piece first, in words of BERT's own making."""
    normalizers = _steps(files.tokenizer.get("normalizer"), "normalizers")
    cuts = [one.get("type") for one in _steps(files.tokenizer.get("pre_tokenizer"), "pretokenizers")]
    if len(normalizers) != 1 or normalizers[0].get("type") != "BertNormalizer" or cuts != ["BertPreTokenizer"]:
        raise files.refusal("another normalizer or pre_tokenizer than BERT's", "BERT's")
    normalizer = normalizers[0]
    for key in ("clean_text", "handle_chinese_chars"):
        if normalizer.get(key) is not True:
            raise files.refusal(f"{key} = {normalizer.get(key)}", "true, as llama.cpp does it")
    if files.model.get("continuing_subword_prefix") != "##":
        raise files.refusal(f"the prefix {str(files.model.get('continuing_subword_prefix'))[:40]!r}", "##")
    lower, strip = normalizer.get("lowercase") is True, normalizer.get("strip_accents")
    found: Pairs = {
        "tokenizer.ggml.model": ("string", "bert"), "tokenizer.ggml.pre": ("string", "default"),
        "tokenizer.ggml.normalizer.lowercase": ("bool", lower),
        "tokenizer.ggml.normalizer.strip_accents": ("bool", lower if strip is None else strip is True),
    }  # fmt: skip
    return found, {}, ()


def _tokens(files: _Files, rows: int, scores: Scores, *, is_word_piece: bool) -> Pairs:
    """Each token's text and type, and its score where it has one."""
    vocabulary = files.vocabulary
    names, types, ranks = [f"[PAD{number}]" for number in range(rows)], [UNUSED] * rows, [_LEFT_OUT] * rows
    added = {str(one.get("content")): one for one in files.added}
    unknown = files.id_of("unk", vocabulary) if scores else None
    for token, number in vocabulary.items():
        if number >= rows:
            raise files.refusal(
                f"the token {token[:40]!r} as number {number}", f"{rows} tokens, as the token table has"
            )
        text, ranks[number] = token, scores.get(token, 0.0)
        if types[number] != UNUSED:
            raise files.refusal(f"two tokens of number {number}", "one")
        if number == unknown:
            types[number] = UNKNOWN
        elif token in added:
            types[number] = CONTROL if added[token].get("special") else USER_DEFINED
            if types[number] == USER_DEFINED and any(
                added[token].get(key) for key in ("lstrip", "rstrip", "single_word")
            ):
                raise files.refusal(f"the token {token[:40]!r} that takes its neighbours' spaces", "tokens that do not")
            text = token.replace(SPACE, " ") if types[number] == USER_DEFINED and scores else token
        elif scores and _BYTE.fullmatch(token):
            types[number] = BYTE
        else:
            types[number] = NORMAL
            if is_word_piece:
                text = token.removeprefix("##") if token.startswith("##") else SPACE + token
        names[number] = text
    _distinct(files, names)
    found: Pairs = {"tokenizer.ggml.tokens": ("string", names), "tokenizer.ggml.token_type": ("int32", types)}
    if scores:
        found["tokenizer.ggml.scores"] = "float32", ranks
    return found


def _distinct(files: _Files, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise files.refusal(f"two tokens that are {name[:40]!r} to llama.cpp" if name else "an empty token",
                                "tokens that differ")  # fmt: skip
        seen.add(name)


def _special(files: _Files, *, is_word_piece: bool) -> Pairs:
    """The numbers of the special tokens, and which of them stand around each text."""
    vocabulary = files.vocabulary
    ids = {kind: files.id_of(kind, vocabulary) for kind in SPECIAL}
    if is_word_piece:  # llama.cpp writes the beginning and the separator around a text
        ids["bos"], ids["eos"] = ids["cls"], ids["sep"]
    around = dict(zip(("bos", "eos"), _around(files), strict=True))
    adds = {}
    for kind, text in around.items():
        if text is not None and vocabulary.get(text) != ids[kind]:
            raise files.refusal(f"{text[:40]!r} around a text", f"its {SPECIAL[kind]} token there")
        asked = files.settings.get(f"add_{kind}_token")
        adds[kind] = (asked if isinstance(asked, bool) else text is not None) and ids[kind] is not None
    if is_word_piece and (None in around.values() or ids["unk"] is None):
        raise files.refusal("no token before a text, after it, or for what is unknown", "all three, as BERT has them")
    found: Pairs = {f"tokenizer.ggml.{SPECIAL[kind]}_token_id": ("uint32", number)
                    for kind, number in ids.items() if number is not None}  # fmt: skip
    return found | {f"tokenizer.ggml.add_{kind}_token": ("bool", value) for kind, value in adds.items()}


def _around(files: _Files) -> tuple[str | None, str | None]:
    """The token that is put before each text, and the one after it."""
    before: list[str] = []
    after: list[str] = []
    for one in _steps(files.tokenizer.get("post_processor"), "processors"):
        if one.get("type") in ("RobertaProcessing", "BertProcessing"):
            before, after = ([str(text) for text in _list(one.get(name))[:1]] for name in ("cls", "sep"))
        elif one.get("type") == "TemplateProcessing":
            parts = [part for part in _list(one.get("single")) if isinstance(part, Mapping)]
            place = next((number for number, part in enumerate(parts) if "Sequence" in part), len(parts))
            before, after = _names(parts[:place]), _names(parts[place + 1 :])
        elif one.get("type") != "ByteLevel":
            raise files.refusal(f"the post_processor {one.get('type')}", "a template")
    if len(before) > 1 or len(after) > 1:
        raise files.refusal(f"{' '.join([*before, *after])} around a text", "one token on each side at most")
    return next(iter(before), None), next(iter(after), None)


def _names(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(part["SpecialToken"].get("id")) for part in parts if isinstance(part.get("SpecialToken"), Mapping)]


def _template(files: _Files) -> str | None:
    """How a conversation is written as a text."""
    found = files.settings.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, Mapping)}
        found = named.get("default")
    if isinstance(found, str):
        return found
    place = files.path / FILES[4]
    try:
        return place.read_text(encoding="utf-8") if place.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise files.refusal(f"a {place.name} that cannot be read ({error})", "a text in UTF-8") from error
