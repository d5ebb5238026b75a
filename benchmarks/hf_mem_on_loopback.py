"""Runs the command `hf-mem` as it is, with its requests to huggingface.co sent to `HF_ENDPOINT` instead.

hf-mem 0.5.6 takes repository names only and has the hub's address in its code. The one change is the address of each
request as it leaves the client; it goes over plain HTTP/1.1 without TLS, which costs hf-mem less than the real hub.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

httpx2 = importlib.import_module("httpx2")
"""hf-mem's HTTP client; by name, as this project does not depend on it."""


def main() -> None:
    """The command line of hf-mem."""
    endpoint = httpx2.URL(os.environ["HF_ENDPOINT"])
    send = httpx2.AsyncHTTPTransport.handle_async_request

    async def to_endpoint(self: Any, request: Any) -> Any:
        assert request.url.host == "huggingface.co", request.url
        request.url = request.url.copy_with(scheme=endpoint.scheme, host=endpoint.host, port=endpoint.port)
        return await send(self, request)

    httpx2.AsyncHTTPTransport.handle_async_request = to_endpoint
    importlib.import_module("hf_mem.cli").main()


if __name__ == "__main__":
    main()
