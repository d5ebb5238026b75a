"""How do the same numbers come out of a browser and of HTTP? An application that only hands JSON to the engine.

It binds to the loopback address, takes configurations and layer specifications as text and opens no file: a page that
someone leaves running must not become a way to read the disk. Requests that name another host are refused, so that no
other site can reach it through a name of its own.
"""

from __future__ import annotations

import html
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.errors import SourceError, UnitError, WeighbridgeError
from weighbridge.formats import config, json_text
from weighbridge.inspection import Inspection, inspect
from weighbridge.layer import count_layer
from weighbridge.show import report
from weighbridge.units import parse_count

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"

_EXAMPLE = """{
  "model_type": "llama",
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": 128256,
  "hidden_size": 2048,
  "intermediate_size": 8192,
  "num_hidden_layers": 16,
  "num_attention_heads": 32,
  "num_key_value_heads": 8,
  "tie_word_embeddings": true
}"""

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"
content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark"><title>Weighbridge</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:64rem;padding:0 1rem}}
textarea{{width:100%;height:16rem;font:13px/1.4 ui-monospace,monospace}}.error{{border-left:4px solid #d55e00;
padding:.5rem 1rem}}</style></head><body><h1>What does this model weigh?</h1>
<form method="post" action="/"><p><label for="config">The model's config.json</label></p>
<textarea id="config" name="config" spellcheck="false">{config}</textarea>
<p><label>Context for the FLOPs: <input name="context" value="{context}" size="8"></label>
<button>Weigh</button></p></form>
{result}</body></html>"""


def application(hosts: Sequence[str] = (HOST, "localhost")) -> Starlette:
    """The web application.

    `GET /` and `POST /` are the page; `POST /api/inspect?context=N` takes a config.json and `GET /api/layer?spec=SPEC`
    a layer. Both answer with the document that `--json` prints, and with status 400 and `{"error": ...}` for bad input.

    Raises:
        SourceError: when the extra `web` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise _missing(error) from error

    async def page(request: Request) -> Response:
        if request.method == "GET":
            return HTMLResponse(_page(_EXAMPLE, "0", ""))
        from urllib.parse import parse_qs

        form = parse_qs((await _body(request)).decode("utf-8", "replace"), keep_blank_values=True)
        text, context = form.get("config", [""])[0], form.get("context", ["0"])[0]
        try:
            drawn = await run_in_threadpool(lambda: report.fragment(_inspect(text.encode(), context)))
            return HTMLResponse(_page(text, context, drawn))
        except WeighbridgeError as error:
            return HTMLResponse(
                _page(text, context, f'<p class="error">{html.escape(str(error))}</p>'), status_code=400
            )

    async def api_inspect(request: Request) -> Response:
        try:
            body, context = await _body(request), request.query_params.get("context", "0")
            return JSONResponse(await run_in_threadpool(lambda: _inspect(body, context).to_json()))
        except WeighbridgeError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    async def api_layer(request: Request) -> Response:
        try:
            layer = await run_in_threadpool(count_layer, request.query_params.get("spec", ""))
            return JSONResponse(layer.to_json())
        except WeighbridgeError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    async def refused(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        text = f"{request.method} {request.url.path} is no address here; expected /, /api/inspect or /api/layer"
        return JSONResponse({"error": text}, status_code=status)

    app = Starlette(exception_handlers={404: refused, 405: refused}, routes=[
        Route("/", page, methods=["GET", "POST"]),
        Route("/api/inspect", api_inspect, methods=["POST"]),
        Route("/api/layer", api_layer, methods=["GET"]),
    ])  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def serve(port: int, tell: Callable[[str], object]) -> None:
    """Serves the application on the loopback address until it is stopped; `tell` is given the address.

    Raises:
        SourceError: when the extra `web` is not installed, or the port is taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise _missing(error) from error
    with socket.socket() as listener:
        try:
            listener.bind((HOST, port))
        except OSError as error:
            read = f"port {port} of {HOST} cannot be used ({error.strerror})"
            raise SourceError(read, "a free port", "stop what uses it, or give another with --port") from error
        tell(f"http://{HOST}:{listener.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(application(), log_level="warning")).run([listener])


def _missing(error: ImportError) -> SourceError:
    return SourceError(
        f"the page needs {error.name}", "the extra `web`", "install weighbridge again with [web] after it"
    )


async def _body(request: Request) -> bytes:
    """The body of a request, refused as soon as it is longer than any config.json."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > config.LARGEST_CONFIG_BYTES:
            raise UnitError(f"the request holds over {config.LARGEST_CONFIG_BYTES} bytes", "a config.json", "send less")
    return bytes(body)


def _inspect(text: bytes, context: str) -> Inspection:
    parsed: Any = json_text.parse(text, "the request", allow_bom=True, allow_constants=True)
    if not isinstance(parsed, dict):
        raise UnitError("the request holds no JSON object", "a config.json", "paste the whole file")
    return inspect({"model_type": None, **parsed}, context_tokens=parse_count(context))


def _page(text: str, context: str, result: str) -> str:
    return _PAGE.format(config=html.escape(text), context=html.escape(context), result=result)
