"""What does a plan cost in money, energy and carbon? Prices of the catalogue and joules over the predicted speed."""

from __future__ import annotations

from typing import Any

from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.hardware.machine import Machine
from weighbridge.predict.carbon import ANYWHERE, Site, emitted
from weighbridge.predict.service import Service
from weighbridge.predict.speed import Speed


def cost(built: Machine, fast: Speed, asked: Service) -> dict[str, Any]:
    """The part `cost` of the JSON contract: at the catalogue's price an hour, the machine used all the time."""
    price = built.device.price_usd_per_h
    missing = "no price of this device is known"
    if price is None:
        return {key: Estimate(None, None, None, unit, Basis.SPECIFIED, missing).to_json()
                for key, unit in (("usd_per_hour", "USD/h"), ("usd_per_million_output_tokens", "USD"),
                                  ("usd_per_request", "USD"))}  # fmt: skip
    hour = Estimate(price * built.devices, price * built.devices, price * built.devices, "USD/h", Basis.SPECIFIED,
                    built.device.source_of("price_usd_per_h"))  # fmt: skip
    million = _each(hour, fast.output_tok_s, 1e6 / 3600, "USD")
    request = _each(hour, fast.output_tok_s, asked.output_tokens / 3600, "USD")
    return {"usd_per_hour": hour.to_json(), "usd_per_million_output_tokens": million.to_json(),
            "usd_per_request": request.to_json()}  # fmt: skip


def energy(joules: Estimate, at: Site = ANYWHERE) -> dict[str, Any]:
    """The part `energy` of the JSON contract, from joules an output token and the grid of a place."""
    carbon = emitted(joules.times(1e6), at)
    return {"j_per_output_token": joules.to_json(), "gco2e_per_million_output_tokens": carbon.to_json()}


def _each(hour: Estimate, rate: Estimate, amount: float, unit: str) -> Estimate:
    """A price an hour over a rate a second."""
    if not rate.value or not rate.low or not rate.high or not hour.value:
        return Estimate(None, None, None, unit, rate.basis, rate.note or "the speed is unknown")
    basis = weakest([hour.basis, rate.basis])
    return Estimate(hour.value * amount / rate.value, hour.value * amount / rate.high, hour.value * amount / rate.low,
                    unit, basis)  # fmt: skip
