"""How do the same numbers come out of a browser and of HTTP? An application that only hands JSON to the engine.

It binds to the loopback address, takes configurations and layer specifications as text and opens no file that a request
could name: a page that someone leaves running must not become a way to read the disk. Requests that name another host
are refused, so that no other site can reach it through a name of its own.
"""

from __future__ import annotations

import datetime
import html
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.claims import glossary
from weighbridge.claims.check import check
from weighbridge.claims.source import read_document
from weighbridge.errors import SourceError, UnitError, WeighbridgeError
from weighbridge.formats import config, json_text
from weighbridge.growth import history
from weighbridge.hardware import catalogue as hardware_catalogue
from weighbridge.inspection import Inspection, inspect
from weighbridge.layer import count_layer
from weighbridge.loading import TURNS, load
from weighbridge.model.catalogue import find_model, matching, models
from weighbridge.planning import fit
from weighbridge.predict.traffic import Lengths
from weighbridge.predict.training.money import outlay
from weighbridge.service_level import limits
from weighbridge.shapes import Wish, design, designs_json
from weighbridge.show import report
from weighbridge.side_by_side import compare
from weighbridge.training import train
from weighbridge.training_wish import check_method, wish
from weighbridge.units import parse_count, parse_range, parse_rate, parse_seconds
from weighbridge.ways_to_train import ways_to_train

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.datastructures import QueryParams
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
<form method="post" action="/"><p><label>A model by its name: <input name="model" value="{model}" list="models"></label>
<datalist id="models">{names}</datalist></p><p><label for="config">or its config.json</label></p>
<textarea id="config" name="config" spellcheck="false">{config}</textarea>
<p><label>Context for the FLOPs: <input name="context" value="{context}" size="8"></label>
<button>Weigh</button></p></form>
{result}</body></html>"""


def application(hosts: Sequence[str] = (HOST, "localhost")) -> Starlette:
    """The web application.

    `GET /` and `POST /` are the page. `POST /api/inspect?context=N&like=FAMILY` takes a config.json, and
    `GET /api/inspect?model=NAME` a named model; `GET /api/layer?spec=SPEC` a layer; `GET /api/models?text=TEXT`,
    `/api/compare?model=A&model=B`, `/api/history?model=A`, `/api/design?parameters=N&vocab=N`,
    `/api/fit?model=NAME&on=DEVICE`, `/api/load?model=NAME&on=DEVICE&rate=RATE`,
    `/api/train?model=NAME&on=DEVICE&tokens=N` and `/api/devices?text=TEXT` answer as the commands of these names;
    `/api/explain?term=TERM` too;
    `POST /api/check` takes sentences, an article (`as=article.md`) or a table of claims (`as=claims.csv`). All
    answer with the document that `--json` prints, and with status 400 and `{"error": ...}` for bad input.

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
            return HTMLResponse(_page(_EXAMPLE, "", "0", ""))
        from urllib.parse import parse_qs

        form = parse_qs((await _body(request)).decode("utf-8", "replace"), keep_blank_values=True)
        text, name = (form.get(key, [""])[0] for key in ("config", "model"))
        context = form.get("context", [""])[0] or "0"
        try:
            found = _named(name, context) if name else _inspect(text.encode(), context)
            return HTMLResponse(_page(text, name, context, await run_in_threadpool(report.fragment, found)))
        except WeighbridgeError as error:
            told = f'<p class="error">{html.escape(str(error))}</p>'
            return HTMLResponse(_page(text, name, context, told), status_code=400)

    def answering(answer: Callable[[QueryParams, bytes], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                body = await _body(request)
                return JSONResponse(await run_in_threadpool(answer, request.query_params, body))
            except WeighbridgeError as error:
                return JSONResponse({"error": str(error)}, status_code=400)

        return respond

    async def refused(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        known = ", ".join(f"{method} {path}" for path, method, _ in _API)
        text = f"{request.method} {request.url.path} is no address here; expected GET /, {known}"
        return JSONResponse({"error": text}, status_code=status)

    app = Starlette(exception_handlers={404: refused, 405: refused}, routes=[
        Route("/", page, methods=["GET", "POST"]),
        *(Route(path, answering(answer), methods=[method]) for path, method, answer in _API),
    ])  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def _api_inspect(query: QueryParams, body: bytes) -> Any:
    return _inspect(body, query.get("context", "0"), query.get("like")).to_json()


def _api_check(query: QueryParams, body: bytes) -> Any:
    return check(read_document(body, query.get("as", "claims.txt"))).to_json()


def _api_explain(query: QueryParams, body: bytes) -> Any:
    term = query.get("term")
    if term is not None:
        return glossary.explain(term).to_json()
    if "questions" in query or "myths" in query:
        asked = glossary.questions() if "questions" in query else glossary.myths()
        return [glossary.explained(entry).to_json() for entry in asked]
    return glossary.listing(glossary.terms())


def _api_named(query: QueryParams, body: bytes) -> Any:
    return _named(query.get("model", ""), query.get("context", "0")).to_json()


def _api_compare(query: QueryParams, body: bytes) -> Any:
    models = [find_model(name) for name in query.getlist("model")]
    return compare(models, context_tokens=parse_count(query.get("context", "0"))).to_json()


def _api_history(query: QueryParams, body: bytes) -> Any:
    names = query.getlist("model")
    records = not names and query.get("all") is None
    return [point.to_json() for point in history(names, developer=query.get("developer"), records=records)]


def _api_design(query: QueryParams, body: bytes) -> Any:
    optional = {"layers": "num_layers", "width": "hidden_size", "head_dim": "head_dim", "kv_heads": "num_kv_heads",
                "experts": "experts", "top_k": "experts_per_token"}  # fmt: skip
    wish = Wish(
        parameters=parse_count(query.get("parameters", "")), vocab_size=parse_count(query.get("vocab", "")),
        model_type=query.get("like", "llama"), max_positions=parse_count(query.get("positions", "4096")),
        tied=query.get("tied") is not None,
        **{name: parse_count(query[key]) for key, name in optional.items() if key in query},
    )  # fmt: skip
    return designs_json(wish, design(wish, parse_count(query.get("most", "5"))))


_PLAN_COUNTS = {
    "devices": "devices", "prompt": "prompt_tokens", "output": "output_tokens", "context": "context_tokens",
    "batch": "batch", "concurrency": "concurrency", "tp": "tensor_parallel", "pp": "pipeline_parallel",
    "ep": "expert_parallel", "dp": "data_parallel", "gpu_layers": "gpu_layers", "cpu_experts": "cpu_experts",
    "threads": "threads", "max_sequences": "max_sequences",
}  # fmt: skip
_PLAN_WORDS = ("weights", "kv", "runtime", "grid", "pue")
"""What `/api/fit` takes beside models, device and utilization: the options of `weigh fit`, without dashes."""


def _plan_options(query: QueryParams, others: Iterable[str] = ()) -> dict[str, Any]:
    """The options of a plan, all names of the query being known."""
    known = {"model", "on", "draft", "utilization", "no_flash_attention", *_PLAN_WORDS, *_PLAN_COUNTS, *others}
    for name in query:
        if name not in known:
            raise UnitError(f"the query has {name!r}", f"one of {', '.join(sorted(known))}", "leave it out")
    options: dict[str, Any] = {name: query[name] for name in _PLAN_WORDS if name in query}
    options |= {option: parse_count(query[name]) for name, option in _PLAN_COUNTS.items() if name in query}
    if "utilization" in query:
        options["utilization"] = _number(query, "utilization", "a share above 0 and up to 1, such as 0.9")
    if not query.get("on"):
        raise UnitError("no device is named", "on=DEVICE, such as on=h100-sxm", "see /api/devices")
    if "no_flash_attention" in query:
        options["flash_attention"] = query["no_flash_attention"] == "0"
    if "draft" in query:
        options["draft"] = find_model(query["draft"])
    return options


def _number(query: QueryParams, name: str, expected: str) -> float:
    try:
        return float(query[name])
    except ValueError as error:
        raise UnitError(f"the {name} is {query[name]!r}", expected, "correct it") from error


def _api_fit(query: QueryParams, body: bytes) -> Any:
    return fit(find_model(query.get("model", "")), query["on"], **_plan_options(query)).to_json()


_TRAIN_WORDS = ("method", "targets", "precision", "optimizer", "attention", "offload", "checkpointing",
                "layout", "loss", "kernels")  # fmt: skip
_TRAIN_COUNTS = ("tokens", "devices", "rank", "prompt_tokens", "train_layers", "seq", "micro_batch", "global_batch",
                 "zero", "tp", "pp", "dp", "cp", "ep", "unique", "claimed_hours", "checkpoints")  # fmt: skip
_TRAIN_TERMS = ("price", "grid", "pue", "watts", "trials", "item", "storage_class", "checkpoint_days",
                "compare")  # fmt: skip


def _api_train(query: QueryParams, body: bytes) -> Any:
    known = {"model", "parameters", "on", *_TRAIN_TERMS, *_TRAIN_WORDS, *_TRAIN_COUNTS}
    for name in query:
        if name not in known:
            raise UnitError(f"the query has {name!r}", f"one of {', '.join(sorted(known))}", "leave it out")
    if not query.get("on") or "tokens" not in query:
        raise UnitError("no device or no tokens are named", "on=DEVICE and tokens=N", "see /api/devices")
    words: dict[str, Any] = {name: query[name] for name in _TRAIN_WORDS if name in query}
    counts: dict[str, Any] = {name: parse_count(query[name]) for name in _TRAIN_COUNTS if name in query}
    is_compared = query.get("compare", "0") != "0"
    if is_compared and "claimed_hours" in counts:
        raise UnitError("claimed_hours with compare", "one plan that they are held against", "leave one of them out")
    if not is_compared:
        check_method({**words, **counts})
    if "parameters" in query and "model" in query:
        raise UnitError("a model and a number of parameters", "one of them", "leave the other out")
    source = parse_count(query["parameters"]) if "parameters" in query else find_model(query.get("model", ""))
    price, watts = (parse_range(query[name]) if name in query else None for name in ("price", "watts"))
    claimed, kept = counts.pop("claimed_hours", None), counts.pop("checkpoints", 0)
    days = _number(query, "checkpoint_days", "days such as 30") if "checkpoint_days" in query else None
    beside = outlay(trials=query.get("trials"), items=query.getlist("item"), checkpoints=kept, checkpoint_days=days,
                    storage_class=query.get("storage_class"))  # fmt: skip
    terms: dict[str, Any] = {"usd_per_hour": price, "grid": query.get("grid"), "pue": query.get("pue"), "watts": watts,
                             "outlay": beside, "today": datetime.date.today()}  # fmt: skip
    asked = wish(**words, **counts)
    if is_compared:
        return ways_to_train(source, query["on"], asked, **terms).to_json()
    return train(source, query["on"], asked, claimed_hours=claimed, **terms).to_json()


_LOAD_TIMES = {"duration": "duration_s", "think": "think_s"}
_LOAD_NUMBERS = {"percentile": "percent", "peak": "peak", "burstiness": "burstiness", "availability": "availability",
                 "uptime": "uptime"}  # fmt: skip
_LOAD_COUNTS = {"replicas": "replicas", "step_tokens": "step_tokens", "seed": "seed"}
_LENGTHS = ("prompt_cv", "output_cv", "shared_prefix")
MOST_REQUESTS = 200_000
"""Requests that the interface simulates for one question: a second's work. The command line takes more."""


def _api_load(query: QueryParams, body: bytes) -> Any:
    own = {"rate", "slo", *_LOAD_TIMES, *_LOAD_NUMBERS, *_LOAD_COUNTS, *_LENGTHS}
    options = _plan_options(query, own)
    if "batch" in options:
        raise UnitError("the query has 'batch'", "a load, which forms its own", "name max_sequences instead")
    options |= {option: parse_seconds(query[name]) for name, option in _LOAD_TIMES.items() if name in query}
    options |= {option: _number(query, name, "a number") for name, option in _LOAD_NUMBERS.items() if name in query}
    options |= {option: parse_count(query[name]) for name, option in _LOAD_COUNTS.items() if name in query}
    rate = parse_rate(query["rate"]) if "rate" in query else None
    requests = TURNS * options.get("concurrency", 0) if rate is None else rate * options.get("duration_s", 0.0)
    if requests > MOST_REQUESTS:
        read = f"a simulation of {requests:,.0f} requests"
        raise UnitError(read, f"at most {MOST_REQUESTS:,} here", "ask for less, or ask the command line")
    spread = {"prompt_cv": 0.0, "output_cv": 0.0}
    spread |= {name: _number(query, name, "a number") for name in spread if name in query}
    lengths = Lengths(
        prompt_tokens=options.pop("prompt_tokens", 512), output_tokens=options.pop("output_tokens", 128),
        shared_tokens=parse_count(query.get("shared_prefix", "0")), **spread,
    )  # fmt: skip
    promised = limits(query["slo"]) if "slo" in query else ()
    return load(find_model(query.get("model", "")), query["on"], rate=rate, clients=options.pop("concurrency", None),
                lengths=lengths, limits=promised, **options).to_json()  # fmt: skip


def _text_of(query: QueryParams) -> str:
    """The text of a list, which takes nothing else: rankings are for the command line."""
    for name in query:
        if name != "text":
            raise UnitError(f"the query has {name!r}", "text alone", "leave it out")
    return query.get("text", "")


_API: tuple[tuple[str, str, Callable[[QueryParams, bytes], Any]], ...] = (
    ("/api/inspect", "POST", _api_inspect),
    ("/api/inspect", "GET", _api_named),
    ("/api/layer", "GET", lambda query, body: count_layer(query.get("spec", "")).to_json()),
    ("/api/check", "POST", _api_check),
    ("/api/explain", "GET", _api_explain),
    ("/api/models", "GET", lambda query, body: [model.to_json() for model in matching(_text_of(query))]),
    ("/api/compare", "GET", _api_compare),
    ("/api/history", "GET", _api_history),
    ("/api/design", "GET", _api_design),
    ("/api/fit", "GET", _api_fit),
    ("/api/load", "GET", _api_load),
    ("/api/train", "GET", _api_train),
    (
        "/api/devices",
        "GET",
        lambda query, body: [device.to_json() for device in hardware_catalogue.matching(_text_of(query))],
    ),
)
"""Address, method and answer of each door of the HTTP interface."""


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


def _inspect(text: bytes, context: str, like: str | None = None) -> Inspection:
    parsed: Any = json_text.parse(text, "the request", allow_bom=True, allow_constants=True)
    if not isinstance(parsed, dict):
        raise UnitError("the request holds no JSON object", "a config.json", "paste the whole file")
    return inspect({"model_type": None, **parsed}, context_tokens=parse_count(context), like=like)


def _named(name: str, context: str) -> Inspection:
    return inspect(find_model(name), context_tokens=parse_count(context))


def _page(text: str, name: str, context: str, result: str) -> str:
    names = "".join(f'<option value="{html.escape(model.name)}">' for model in models() if model.config)
    return _PAGE.format(config=html.escape(text), model=html.escape(name), context=html.escape(context), names=names,
                        result=result)  # fmt: skip
