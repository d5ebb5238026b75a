"""What do others charge? List prices of hosted models, and of keeping bytes in a cloud and sending them out of it.

Each price has its date and its source; none is an offer. Those of instances and devices are in `hardware`.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate
from weighbridge.names import index

FOLDER = Path(__file__).parent
LISTED = "the table of genai-prices 0.2.3 (MIT)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """What a hosted model costs, in USD per million tokens.

    `batch_discount` is the share that its asynchronous batch interface takes off; None where none is known.
    """

    name: str
    provider: str
    input_usd_per_million_tokens: float
    output_usd_per_million_tokens: float
    checked: datetime.date | None
    page: str
    model_id: str | None = None
    cached_input_usd_per_million_tokens: float | None = None
    batch_discount: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.model_id or self.name)))

    @property
    def source(self) -> str:
        """Where the price comes from."""
        return self.page if self.checked is None else f"{self.page} as in {LISTED}"

    def request_usd(
        self, prompt_tokens: int, output_tokens: int, *, cached_share: float = 0.0, batch: bool = False
    ) -> Estimate:
        """The price of one request, in USD. `cached_share` is the share of its prompt that the provider remembers.

        Raises:
            UnitError: when the provider lists no price of cached prompts, or none of a batch, and one is asked for.

        Example:
            >>> find_api("gpt-4").request_usd(1000, 1000).value
            0.09
        """
        if not 0 <= cached_share <= 1:
            raise UnitError(f"a cached share of {cached_share:g}", "a share from 0 to 1", "correct it")
        cached = self.cached_input_usd_per_million_tokens
        if cached_share and cached is None:
            raise UnitError(f"cached prompts of {self.name}", "a model with a listed price of them", "leave it out")
        if batch and self.batch_discount is None:
            raise UnitError(f"the batch interface of {self.name}", "a model with a listed discount", "leave it out")
        million = self.input_usd_per_million_tokens * (1 - cached_share) + (cached or 0.0) * cached_share
        usd = (prompt_tokens * million + output_tokens * self.output_usd_per_million_tokens) / 1e6
        usd *= 1 - (self.batch_discount or 0.0) * batch
        return Estimate(usd, usd, usd, "USD", Basis.SPECIFIED, f"the list price, {self.checked or 'as given'}")

    def to_json(self) -> dict[str, Any]:
        """One entry of `api` in the document of `weigh prices`."""
        return {
            "name": self.name, "provider": self.provider,
            "input_usd_per_million_tokens": self.input_usd_per_million_tokens,
            "cached_input_usd_per_million_tokens": self.cached_input_usd_per_million_tokens,
            "output_usd_per_million_tokens": self.output_usd_per_million_tokens,
            "batch_discount": self.batch_discount,
            "date": None if self.checked is None else self.checked.isoformat(), "source": self.source,
            "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesPrice:
    """What a cloud charges for bytes: kept for a month (`storage`), or sent out to the internet (`egress`).

    A tier is up to how many GB a month, and the price of each of them; the last has no end, written 0.
    """

    name: str
    cloud: str
    kind: str
    tiers_usd_per_gb: tuple[tuple[float, float], ...]
    checked: datetime.date
    source: str
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return (self.name,)

    def month_usd(self, size_bytes: int) -> Estimate:
        """USD a month for so many bytes.

        Clouds write GB and some count 2^30 bytes: the lower bound does so, the value takes 10^9.

        Example:
            >>> round(find_bytes("s3-standard").month_usd(140_000_000_000).value, 2)
            3.22
        """
        usd = self._usd(size_bytes / 1e9)
        note = f"{self.name}, {self.checked}; the lower bound takes a GB for 2^30 bytes"
        return Estimate(usd, self._usd(size_bytes / 2**30), usd, "USD", Basis.SPECIFIED, note)

    def _usd(self, gigabytes: float) -> float:
        total, start = 0.0, 0.0
        for end, price in self.tiers_usd_per_gb:
            here = gigabytes - start if end == 0 else min(gigabytes, end) - start
            total += max(0.0, here) * price
            start = end
        return total

    def to_json(self) -> dict[str, Any]:
        """One entry of `bytes` in the document of `weigh prices`."""
        return {
            "name": self.name, "cloud": self.cloud, "kind": self.kind,
            "tiers": [{"up_to_gb": end or None, "usd_per_gb": price} for end, price in self.tiers_usd_per_gb],
            "date": self.checked.isoformat(), "source": self.source, "notes": list(self.notes),
        }  # fmt: skip


@functools.cache
def api_prices() -> tuple[ApiPrice, ...]:
    """Every listed price of a hosted model, by provider."""
    tables = _read("api.toml")
    return tuple(
        ApiPrice(name=name, **{**facts, "notes": tuple(facts.get("notes", ()))}) for name, facts in tables.items()
    )


@functools.cache
def bytes_prices() -> tuple[BytesPrice, ...]:
    """Every price of bytes that are kept or sent."""
    return tuple(
        BytesPrice(name=name, **{**facts, "notes": tuple(facts.get("notes", ())),
                                 "tiers_usd_per_gb": tuple((end, usd) for end, usd in facts["tiers_usd_per_gb"])})
        for name, facts in _read("storage.toml").items()
    )  # fmt: skip


def find_api(name: str) -> ApiPrice:
    """The price of a hosted model.

    Raises:
        UnknownNameError: when none is listed.
    """
    found = index(api_prices()).get(name.strip().lower())
    if found is None:
        known = [price.name for price in api_prices()]
        raise UnknownNameError("hosted model", name, known, "see `weigh prices`, or give its price with --api-price")
    return found


def find_bytes(name: str, kind: str = "storage") -> BytesPrice:
    """The price of a class of storage, or of egress.

    Raises:
        UnknownNameError: when none is listed.
    """
    known = {price.name: price for price in bytes_prices() if price.kind == kind}
    found = known.get(name.strip().lower())
    if found is None:
        raise UnknownNameError(f"class of {kind}", name, known, "see `weigh prices`")
    return found


def egress_of(storage: BytesPrice) -> BytesPrice:
    """What the same cloud charges for bytes that leave it."""
    return next(price for price in bytes_prices() if price.kind == "egress" and price.cloud == storage.cloud)


def _read(file: str) -> Mapping[str, Any]:
    return tomllib.loads((FOLDER / file).read_text(encoding="utf-8"))
