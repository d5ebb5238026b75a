"""What tests of programs that nobody vouches for share."""

from __future__ import annotations

import pytest

from weighbridge.errors import ConfigError
from weighbridge.prove.sandbox import isolation


@pytest.fixture
def kept() -> None:
    """Skips where programs cannot be cut off: they are refused there, which is tested too."""
    try:
        isolation()
    except ConfigError as error:
        pytest.skip(f"no program is run here: {error}")
