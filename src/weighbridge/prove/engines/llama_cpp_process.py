"""Reads, writes or embeds texts with a GGUF file, through the C interface of llama.cpp that `xllamacpp` exports.

A process of its own: `python -m weighbridge.prove.engines.llama_cpp_process`, so that a crash is its own. It reads
orders as lines of JSON on standard input and answers each with a line of JSON, behind which come `bytes` bytes of fp32.

Parameters go by value in structures whose layout changes between releases: only their leading fields are set, in
structures larger than the real ones, and before the first answer the log-probabilities of a prompt, or an encoder's
vector of it, are held against those of llama.cpp's own server. Layouts: `include/llama.h`.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.hardware.ggml import library
from weighbridge.measuring.llama_cpp import server
from weighbridge.prove.engines.model import cut, log_softmax, picked
from weighbridge.prove.vectors import cosines

PROBE = "The capital of France is"
PROBE_CONTEXT = 256
CLOSE = 0.25
"""Nats by which the five likeliest tokens may differ in the mean: a wrong layout gives noise of several. The server
takes a prompt in other batches, and a quantized model answers to that: by 0.0002 for SmolLM2 in Q4_1, 0.08 for Gemma 3
270M in Q4_K_M, which differs as much from itself when it is fed token by token."""
ALIKE = 0.99
"""The least cosine of an encoder's vector and the server's: for MiniLM it is 1 to the last digit, in 5 bits too."""
POOLINGS, RANKS = (1, 2, 3), 4
"""`llama_pooling_type` of what makes one vector of a text (mean, first, last), and of what ranks pairs of texts."""
STEP = 512
"""Contexts are made in multiples of so many tokens."""

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_TOKENS = ctypes.POINTER(_INT)


class _ModelParameters(ctypes.Structure):
    _fields_ = (("opaque", ctypes.c_uint8 * 1024),)


class _ContextParameters(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max")),
                ("opaque", ctypes.c_uint8 * 1008))  # fmt: skip


class _Batch(ctypes.Structure):
    _fields_ = (("n_tokens", _INT), ("token", ctypes.POINTER(_INT)), ("embd", _POINTER), ("pos", ctypes.POINTER(_INT)),
                ("n_seq_id", ctypes.POINTER(_INT)), ("seq_id", ctypes.POINTER(ctypes.POINTER(_INT))),
                ("logits", ctypes.POINTER(ctypes.c_int8)))  # fmt: skip


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _POINTER)
_SILENT = _LOG(lambda level, text, data: None)
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_log_set": (None, (_LOG, _POINTER)), "llama_backend_init": (None, ()),
    "llama_model_default_params": (_ModelParameters, ()),
    "llama_model_load_from_file": (_POINTER, (ctypes.c_char_p, _ModelParameters)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)), "llama_model_n_ctx_train": (_INT, (_POINTER,)),
    "llama_model_has_encoder": (ctypes.c_bool, (_POINTER,)), "llama_model_has_decoder": (ctypes.c_bool, (_POINTER,)),
    "llama_vocab_n_tokens": (_INT, (_POINTER,)), "llama_vocab_bos": (_INT, (_POINTER,)),
    "llama_vocab_eos": (_INT, (_POINTER,)), "llama_vocab_get_add_bos": (ctypes.c_bool, (_POINTER,)),
    "llama_vocab_is_eog": (ctypes.c_bool, (_POINTER, _INT)),
    "llama_context_default_params": (_ContextParameters, ()),
    "llama_init_from_model": (_POINTER, (_POINTER, _ContextParameters)), "llama_free": (None, (_POINTER,)),
    "llama_set_n_threads": (None, (_POINTER, _INT, _INT)), "llama_n_ctx": (ctypes.c_uint32, (_POINTER,)),
    "llama_tokenize": (_INT, (_POINTER, ctypes.c_char_p, _INT, _TOKENS, _INT, ctypes.c_bool, ctypes.c_bool)),
    "llama_detokenize": (_INT, (_POINTER, _TOKENS, _INT, ctypes.c_char_p, _INT, ctypes.c_bool, ctypes.c_bool)),
    "llama_batch_init": (_Batch, (_INT, _INT, _INT)), "llama_batch_free": (None, (_Batch,)),
    "llama_get_memory": (_POINTER, (_POINTER,)), "llama_memory_clear": (None, (_POINTER, ctypes.c_bool)),
    "llama_decode": (_INT, (_POINTER, _Batch)), "llama_get_logits": (ctypes.POINTER(ctypes.c_float), (_POINTER,)),
    "llama_pooling_type": (ctypes.c_int, (_POINTER,)), "llama_set_embeddings": (None, (_POINTER, ctypes.c_bool)),
    "llama_get_embeddings_seq": (ctypes.POINTER(ctypes.c_float), (_POINTER, _INT)),
    "llama_model_n_embd_out": (_INT, (_POINTER,)),
}  # fmt: skip


class LlamaError(Exception):
    """What went wrong, in one sentence."""


def declare(library: ctypes.CDLL, functions: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
    """Gives functions of the library the types of their results and arguments.

    Raises:
        LlamaError: when it has not one of them.
    """
    for name, (result, arguments) in functions.items():
        function = getattr(library, name, None)
        if function is None:
            raise LlamaError(f"this xllamacpp does not export {name}")
        function.restype, function.argtypes = result, arguments


class Reader:
    """One model through the C interface."""

    def __init__(self, library: ctypes.CDLL, path: str, threads: int) -> None:
        declare(library, FUNCTIONS)
        self.llama: Any = library
        self.threads = threads
        self.llama.llama_log_set(_SILENT, None)
        self.llama.llama_backend_init()
        self.model = self.llama.llama_model_load_from_file(os.fsencode(path), self.llama.llama_model_default_params())
        if not self.model:
            raise LlamaError("llama.cpp cannot load the file")
        if not self.llama.llama_model_has_decoder(self.model) or self.llama.llama_model_has_encoder(self.model):
            raise LlamaError("the file is neither a decoder nor an encoder alone")
        self.vocabulary = self.llama.llama_model_get_vocab(self.model)
        self.size = self.llama.llama_vocab_n_tokens(self.vocabulary)
        self.context: Any = None
        self.batch: Any = None
        self.places = 0
        self.is_encoder = False  # until there is a context, which tells it

    def about(self) -> dict[str, Any]:
        """What the vocabulary and the file say of themselves.

        Raises:
            LlamaError: for an encoder that does not pool the vectors of tokens into one of a text.
        """
        self._make_room(1)
        pooling = self.llama.llama_pooling_type(self.context)
        if self.is_encoder and pooling not in POOLINGS:
            does = "ranks pairs of texts" if pooling == RANKS else "has no pooling"
            raise LlamaError(f"an encoder that {does} makes no vector of a text")
        begins, ends = (getattr(self.llama, f"llama_vocab_{name}")(self.vocabulary) for name in ("bos", "eos"))
        first = begins if begins >= 0 else ends
        adds_begin = bool(self.llama.llama_vocab_get_add_bos(self.vocabulary)) and begins >= 0
        before, after = self.around() if self.is_encoder else ([begins] * adds_begin, [])
        return {"begin": first if first >= 0 else None, "positions": self.llama.llama_model_n_ctx_train(self.model),
                "before": before, "after": after, "is_encoder": self.is_encoder}  # fmt: skip

    def around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text by itself."""
        bare, whole = self.tokens("a"), self.tokens("a", adds=True)
        place = next((place for place in range(len(whole)) if whole[place : place + len(bare)] == bare), 0)
        return whole[:place], whole[place + len(bare) :]

    def tokens(self, text: str, *, adds: bool = False) -> list[int]:
        """The tokens of a text, of which words of the vocabulary's own signs are read as text.

        `adds`: with those that the tokenizer puts around a text.
        """
        data = text.encode()
        room = (_INT * (len(data) + 8))()
        count = self.llama.llama_tokenize(self.vocabulary, data, len(data), room, len(room), adds, False)
        if count < 0:
            raise LlamaError("llama.cpp cannot split a text into tokens")
        return list(room[:count])

    def text(self, tokens: list[int]) -> str:
        """The text of tokens."""
        given = (_INT * max(1, len(tokens)))(*tokens)
        size = 64 * len(tokens) + 64
        while True:
            room = ctypes.create_string_buffer(size)
            count = self.llama.llama_detokenize(self.vocabulary, given, len(tokens), room, size, False, False)
            if count >= 0:
                return room.raw[:count].decode(errors="replace")
            size = -count

    def rows(self, tokens: list[int], first: int, start: int = 0) -> NDArray[np.float32]:
        """Log-probabilities of what comes after each place from `start`; `tokens` stand at `first` and after."""
        self.decode(tokens, first, start)
        logits = np.ctypeslib.as_array(self.llama.llama_get_logits(self.context), (len(tokens) - start, self.size))
        return log_softmax(logits)

    def vector(self, tokens: list[int]) -> NDArray[np.float32]:
        """What an encoder makes of the tokens of a text, pooled as its file says: one vector of any length."""
        if not tokens:
            raise LlamaError("a text has no token")
        self.decode(tokens, 0, 0)
        found = self.llama.llama_get_embeddings_seq(self.context, 0)
        if not found:
            raise LlamaError(f"llama.cpp makes no vector of {len(tokens)} tokens")
        return np.ctypeslib.as_array(found, (self.llama.llama_model_n_embd_out(self.model),)).copy()

    def decode(self, tokens: list[int], first: int, start: int) -> None:
        """Runs the model on `tokens`, which stand at `first` and after; what comes out is kept from `start` on."""
        if any(not 0 <= token < self.size for token in tokens):
            raise LlamaError("a token is outside the vocabulary")
        if first == 0:
            self._make_room(len(tokens))
            self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        batch = self.batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, first + place, 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = place >= start
        if failed := self.llama.llama_decode(self.context, batch):
            raise LlamaError(f"llama_decode says {failed} to {len(tokens)} tokens")

    def write(self, tokens: list[int], most_tokens: int, stop: list[str]) -> str:
        """The likeliest token after the other, until one or a string of `stop` ends the text, or there are enough."""
        self._make_room(len(tokens) + most_tokens)
        row = self.rows(tokens, 0, len(tokens) - 1)[0]
        written: list[int] = []
        before = self.text(tokens[-1:])

        def text() -> str:
            return self.text([*tokens[-1:], *written]).removeprefix(before)  # alone it could lose its first space

        while True:
            token = int(row.argmax())
            if np.isnan(row).any():
                raise LlamaError("the model gives no number for the next token")
            if self.llama.llama_vocab_is_eog(self.vocabulary, token):
                break
            written.append(token)
            if len(written) >= most_tokens or cut(text(), stop) != text():
                break
            row = self.rows([token], len(tokens) + len(written) - 1)[0]
        return cut(text(), stop)

    def parameters(self, places: int) -> _ContextParameters:
        """What a context for so many tokens is made with."""
        found: _ContextParameters = self.llama.llama_context_default_params()
        found.n_ctx = found.n_batch = places
        found.n_ubatch, found.n_seq_max = places if self.is_encoder else min(STEP, places), 1
        return found

    def answer(self, order: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """What an order asks for, and the numbers that go with it."""
        none = np.zeros((0, 0), dtype=np.float32)
        if "text" in order:
            return {"tokens": self.tokens(order["text"])}, none
        if "pieces" in order:
            return {"pieces": [self.text([token]) for token in order["pieces"]]}, none
        if "write" in order:
            return {"written": self.write(order["write"], order["most_tokens"], order["stop"])}, none
        if "scores" in order:
            tokens, start = order["scores"], order["start"]
            found = picked(self.rows(tokens[:-1], 0, start), np.array(tokens[start + 1 :]))
            return {}, np.array(found, np.float32)
        if "vector" in order:
            return {}, self.vector(order["vector"])[None]
        return {}, self.rows(order["rows"], 0, order["start"])

    def _make_room(self, tokens: int) -> None:
        if tokens <= self.places:
            return
        places = -(-tokens // STEP) * STEP
        if self.context:
            self.llama.llama_batch_free(self.batch)
            self.llama.llama_free(self.context)
        self.context = self.llama.llama_init_from_model(self.model, self.parameters(places))
        if not self.context or self.llama.llama_n_ctx(self.context) < places:
            raise LlamaError(f"llama.cpp cannot make a context of {places} tokens")
        self.llama.llama_set_n_threads(self.context, self.threads, self.threads)
        self.is_encoder = not self.llama.llama_get_memory(self.context)  # it sees all tokens at once and keeps none
        self.llama.llama_set_embeddings(self.context, self.is_encoder)
        self.batch, self.places = self.llama.llama_batch_init(places, 0, 1), places


def server_says(path: str, tokens: list[int], threads: int) -> dict[int, float]:
    """The likeliest next tokens and their log-probabilities, from llama.cpp's server."""
    found = server(path, PROBE_CONTEXT, threads).handle_completions(
        {"prompt": tokens, "max_tokens": 1, "temperature": 0, "logprobs": 5, "cache_prompt": False}
    )
    answer = json.loads(found) if isinstance(found, str | bytes) else found
    try:
        return {one["id"]: one["logprob"] for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
    except (KeyError, IndexError, TypeError) as error:
        raise LlamaError(f"llama.cpp's server gave no log-probabilities ({json.dumps(answer)[:200]})") from error


def server_embeds(path: str, tokens: list[int], threads: int) -> NDArray[np.float32]:
    """The vector of tokens, of length 1, from llama.cpp's server."""
    found = server(path, PROBE_CONTEXT, threads, embeds=True).handle_embeddings({"input": tokens})
    answer = json.loads(found) if isinstance(found, str | bytes) else found
    try:
        return np.array(answer["data"][0]["embedding"], dtype=np.float32)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise LlamaError(f"llama.cpp's server gave no vector ({json.dumps(answer)[:200]})") from error


def load(order: dict[str, Any], kind: type[Reader] = Reader) -> tuple[Reader, dict[str, Any]]:
    """The model, and what it says of itself after it was held against the server."""
    reader = kind(library(), order["path"], order["threads"])
    about = reader.about()
    tokens = [*([] if about["begin"] is None else [about["begin"]]), *reader.tokens(PROBE)]
    if reader.is_encoder:
        tokens = tokens[: about["positions"]]
        own, theirs = reader.vector(tokens)[None], server_embeds(order["path"], tokens, order["threads"])[None]
        if own.shape != theirs.shape or not cosines(own, theirs)[0] > ALIKE:
            raise LlamaError("the C interface and the server of xllamacpp make different vectors of the same prompt")
    else:
        row = reader.rows(tokens, 0, len(tokens) - 1)[0]
        told = server_says(order["path"], tokens, order["threads"])
        apart = float(np.mean([abs(row[token] - value) for token, value in told.items()]))
        if not apart < CLOSE:
            raise LlamaError(
                f"the C interface and the server of xllamacpp differ by {apart:.3g} nats on the same prompt"
            )
    return reader, {**about, "version": importlib.metadata.version("xllamacpp")}


def main(kind: type[Reader] = Reader) -> None:
    """Follows orders until standard input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the engine prints is no answer
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the process that asks it
    reader: Reader | None = None
    for line in sys.stdin:
        order = json.loads(line)
        rows = np.zeros((0, 0), dtype=np.float32)
        answer: dict[str, Any] = {}
        try:
            if reader is None:
                reader, answer = load(order, kind)
            else:
                answer, rows = reader.answer(order)
        except LlamaError as error:
            answer = {"error": str(error)}
        data = np.ascontiguousarray(rows).tobytes()
        out.write(json.dumps({**answer, "bytes": len(data), "shape": rows.shape}).encode() + b"\n" + data)
        out.flush()
    out.close()
    os._exit(0)  # the engine's threads need no farewell


if __name__ == "__main__":
    main()
