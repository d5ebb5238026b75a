"""What are two models asked?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from weighbridge.prove.engines import Opening

PROBES = ("arithmetic", "code")
PROBE_EXAMPLES = 200
Tell = Callable[[str, int, int], None]
"""Is told what is done, how many of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What two models are asked, apart from what a verdict needs.

    `data` is a file of examples, or else `probe` one of `PROBES`; `passages` the file that queries search. `shots`
    worked examples are drawn from the data, or are all of `shots_from`. `calibration` holds what the candidate was made
    with: examples that it shares are left out. `cluster` names a field whose values stand and fall together. `cache` is
    the folder of finished answers, which `fresh` asks again.
    """

    data: str | Path | None = None
    probe: str | None = None
    metrics: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    cluster: str | None = None
    limit: int | None = None
    window: int | None = None
    shots: int = 0
    shots_from: str | Path | None = None
    template: str | None = None
    most_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    passages: str | Path | None = None
    calibration: str | Path | None = None
    run_code: bool = False
    cache: Path | None = None
    fresh: bool = False
    opening: Opening = field(default_factory=Opening)
