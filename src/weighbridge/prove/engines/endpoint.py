"""A model behind an OpenAI-compatible address: what it writes, and how likely it finds a text where it tells that.

`http://HOST/v1#MODEL` (or https) names the base of the interface and the model. `POST completions` writes; with `echo`
and `logprobs` some servers (vLLM, and those that follow it) also tell the log-probabilities of the prompt's own tokens;
one that does not is found out at the first question. `POST embeddings` gives vectors. With `chat` prompts go to `POST
chat/completions` as one message of the user. Nothing but the prompts of the data is sent, and only to that address.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from weighbridge.errors import ConfigError
from weighbridge.prove.engines.model import Ability, Likelihood, Model, Rows, cut

SECONDS = 300
TRIES = 4
WAIT_S = 1.0
"""Before the second try; twice as long before each that follows."""
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may change."""
MOST_ANSWER_BYTES = 64 << 20


class EndpointModel(Model):
    """One model behind an address."""

    def __init__(self, address: str, key: str | None = None, *, chat: bool = False) -> None:
        try:
            parts = urlsplit(address)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
        except ValueError:
            is_good = False
        if not is_good or "@" in address.partition("#")[0]:  # a password has no place in what reports repeat
            raise ConfigError("the address is none of an interface, or has a name and a password in it",
                              "http://HOST:PORT/v1#MODEL", "correct it; a key goes into the environment")  # fmt: skip
        key = (key or "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError("the key has letters that no header can have", "printable ASCII", "set it again")
        self.path = address
        self.url, _, self.name = address.partition("#")
        self.url = self.url.rstrip("/")
        self.key, self.chat = key, chat
        self.is_known = False
        self.engine = "OpenAI-compatible endpoint, chat" if chat else "OpenAI-compatible endpoint"
        self.notes = (f"what {address} runs is not known: its answers are those of one moment",)
        self.abilities: frozenset[Ability] = frozenset(
            {"writes", "embeds"} if chat else {"writes", "embeds", "likelihoods"}
        )

    @cached_property
    def model(self) -> str:
        """The name of the model: that of the address, or else the only one of the server."""
        if self.name:
            return self.name
        names = [one.get("id") for one in self._send("models", None).get("data") or [] if isinstance(one, dict)]
        if len(names) != 1 or not isinstance(names[0], str):
            raise ConfigError(f"{self.url} has {len(names)} models", "the name of one behind #",
                              f"name one: {self.url}#{names[0] if names else 'MODEL'}")  # fmt: skip
        return names[0]

    @property
    def digest(self) -> str:  # type: ignore[override]
        """The address and the name of the model: what it runs is not known."""
        return f"{self.url}#{self.model}"

    def _send(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)
        said = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT_S * 2 ** (attempt - 1))
            try:
                with _OPENER.open(request, timeout=SECONDS) as answer:
                    read = answer.read(MOST_ANSWER_BYTES)
            except urllib.error.HTTPError as error:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    said = error.read(2000).decode(errors="replace").strip()[:200]
                said = f"status {error.code}: {said}"
                if error.code in PASSING:
                    continue
                break
            except (OSError, http.client.HTTPException) as error:
                said = str(getattr(error, "reason", error)) or type(error).__name__
                continue
            try:
                found = json.loads(read)
            except ValueError:
                found = None
            if isinstance(found, dict):
                return found
            said = "no JSON object"
            break
        raise ConfigError(f"{self.url}/{path} does not answer ({said})", "an OpenAI-compatible interface",
                          "check the server; what was answered is kept, and the same command goes on")  # fmt: skip

    def _wrong(self, path: str, what: str) -> ConfigError:
        return ConfigError(f"{self.url}/{path} answered without {what}", "an OpenAI-compatible interface",
                           "check which model and server answer there")  # fmt: skip

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        """As `Model.write`; as far as the server takes the likeliest token at temperature 0."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": most_tokens, "temperature": 0}
        if stop:
            body["stop"] = list(stop)[:4]  # more are refused by some
        path = "chat/completions" if self.chat else "completions"
        body |= {"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}
        try:
            first = self._send(path, body)["choices"][0]
            text = first["message"]["content"] if self.chat else first["text"]
        except (KeyError, IndexError, TypeError) as error:
            raise self._wrong(path, "a text") from error
        return cut(str(text or ""), stop)

    def likelihood(self, context: str, continuation: str) -> Likelihood:
        """How likely a continuation is, from the log-probabilities of the prompt's tokens that reach into it.

        Where a token begins follows from the texts of the tokens, which have to join to the prompt: the offsets that
        servers give count signs that no prompt has.

        Raises:
            ConfigError: when the server does not tell them.
        """
        whole = context + continuation
        body = {"model": self.model, "prompt": whole, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        answer = self._send("completions", body)
        try:
            told = answer["choices"][0]["logprobs"]
            tokens, values, best = told["tokens"], told["token_logprobs"], told.get("top_logprobs")
            if len(tokens) != len(values):
                raise TypeError
            start = next(place for place in range(len(tokens)) if "".join(tokens[place:]).startswith(whole))
        except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
            raise ConfigError(f"{self.url} does not tell how likely the tokens of a prompt are", "completions with "
                              "echo, whose tokens and token_logprobs join to the prompt",
                              "prove on prompts with completions, or run the model's file") from error  # fmt: skip
        first, at, chosen = len(context.rstrip()), 0, []
        for place in range(start, len(tokens)):
            if at >= len(whole):
                break
            at += len(tokens[place])
            if at > first:
                chosen.append(place)
        each = [values[place] for place in chosen]
        if not each or not all(isinstance(value, int | float) and math.isfinite(value) for value in each):
            raise self._wrong("completions", "a log-probability of the answer's first token")
        greedy = isinstance(best, list) and len(best) == len(values)
        for place in chosen if greedy else ():
            other = best[place]
            likeliest = max(other.values(), default=math.inf) if isinstance(other, dict) else math.inf
            greedy = greedy and values[place] >= likeliest
        return Likelihood(float(sum(each)), greedy, len(each))

    def embed(self, texts: Sequence[str]) -> Rows:
        """As `Model.embed`."""
        found = self._send("embeddings", {"model": self.model, "input": list(texts)}).get("data")
        try:
            rows = sorted(found or [], key=lambda one: one["index"])
            vectors = np.array([one["embedding"] for one in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong("embeddings", "vectors") from error
        if vectors.shape[:1] != (len(texts),) or vectors.ndim != 2:
            raise self._wrong("embeddings", "a vector for each text")
        return vectors


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key and the user's data go to the address that was named and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """None: the answer is the error."""


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
"""Goes to the address itself, whatever proxy the environment names."""
