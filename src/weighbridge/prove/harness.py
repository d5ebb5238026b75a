"""Tasks of lm-evaluation-harness, where it is installed, asked of the models that our engines run.

Its own code makes the prompts, asks and scores (`lm_eval.simple_evaluate` with logged samples); what it logged of both
models is paired as two log files are.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, UnitError
from weighbridge.prove.comparison import Comparison, Rule, overall
from weighbridge.prove.engines import open_model
from weighbridge.prove.engines.model import Model, TooLongError
from weighbridge.prove.plan import Plan, Tell
from weighbridge.prove.proof import Proof, of_logs

MOST_TOKENS = 256
"""That a model writes where a task does not say it, as in the harness's own models."""
MOST_POSITIONS = 2048
"""Of a model that does not say it, as in the harness's own models."""


def of_tasks(
    base: str,
    candidate: str,
    names: Sequence[str],
    plan: Plan,
    rule: Rule,
    folder: str | None = None,
    tell: Tell | None = None,
) -> Proof:
    """The proof on tasks of the harness.

    Args:
        base: a file, a folder or an address.
        candidate: the same of the candidate.
        names: names of tasks.
        plan: of it `limit`, `shots` (the task's own number where it is 0), `metrics`, `slices` and `opening` are used.
        rule: what a verdict needs.
        folder: with tasks of the user's own (`include_path` of the harness).
        tell: is told how far the work has come.

    Raises:
        WeighbridgeError: when the harness is not installed, does not know or cannot load a task, or a model fails.
    """
    harness = _harness()
    logs: list[dict[str, list[dict[str, Any]]]] = []
    models = []
    for source, other in ((base, candidate), (candidate, base)):
        with closing(open_model(source, plan.opening, other)) as model:
            logs.append(_evaluate(harness, model, names, plan, rule.seed, folder, tell))
            models.append({"path": model.path, "sha256": model.digest, "engine": model.engine})
    comparisons: list[Comparison] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for task in logs[0]:
            paths = [Path(scratch) / f"{side}.jsonl" for side in ("base", "candidate")]
            for path, log in zip(paths, logs, strict=True):
                path.write_text("".join(json.dumps(one, default=str) + "\n" for one in log[task]), encoding="utf-8")
            found = of_logs(paths[0], paths[1], rule, metrics=plan.metrics, fields=plan.slices)
            title = f"{task}: " if len(logs[0]) > 1 else ""
            comparisons += [replace(one, name=f"{title}{one.name}") for one in found.metrics]
            notes += [f"{title}{note}" for note in found.notes]
    verdict, reason = overall(comparisons)
    settings = {"tasks": list(names), "harness": f"lm_eval {harness.__version__}", "limit": plan.limit,
                "shots": plan.shots or None, "slices": list(plan.slices), "metrics": list(plan.metrics),
                "models": models}  # fmt: skip
    return Proof(base, candidate, tuple(comparisons), verdict, reason, rule, tuple(notes), settings)


def _harness() -> Any:
    try:
        return importlib.import_module("lm_eval")
    except ImportError as error:
        raise ConfigError(f"lm-evaluation-harness is not installed ({error.name} is missing)", "the package lm-eval",
                          "run: pip install lm-eval") from error  # fmt: skip


def _evaluate(
    harness: Any, model: Model, names: Sequence[str], plan: Plan, seed: int, folder: str | None, tell: Tell | None
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """The logged samples of each task."""
    if "writes" not in model.abilities and "reads" not in model.abilities:
        raise ConfigError(f"{model.path} neither reads nor writes texts", "a language model", "name another")
    with contextlib.ExitStack() as quiet:
        if tell is None:  # its bars and warnings are for a terminal
            quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return _samples(harness, model, names, plan, seed, folder, tell)


def _samples(
    harness: Any, model: Model, names: Sequence[str], plan: Plan, seed: int, folder: str | None, tell: Tell | None
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    tasks = importlib.import_module("lm_eval.tasks")
    try:
        manager = tasks.TaskManager(include_path=folder)
        found = harness.simple_evaluate(
            model=adapter(model, tell), tasks=list(names), num_fewshot=plan.shots or None, limit=plan.limit,
            log_samples=True, bootstrap_iters=0, task_manager=manager, random_seed=seed, numpy_random_seed=seed,
            torch_random_seed=seed, fewshot_random_seed=seed, verbosity="ERROR")  # fmt: skip
    except (ConfigError, UnitError):
        raise
    except Exception as error:  # whatever a task of the harness raises
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        read = f"lm-evaluation-harness fails on {', '.join(names)} (it said: {said})"
        raise ConfigError(read, "tasks that it can load", "try them with lm_eval itself") from error
    return {task: list(samples) for task, samples in found["samples"].items()}


def adapter(model: Model, tell: Tell | None) -> Any:
    """What the harness asks, as a model of its own kind."""
    base: Any = importlib.import_module("lm_eval.api.model").LM

    class Adapter(base):  # type: ignore[misc]
        """One of our models."""

        def _all(self, requests: Sequence[Any], answer: Any) -> list[Any]:
            found = []
            for done, request in enumerate(requests, start=1):
                found.append(answer(*request.args))
                if tell is not None:
                    tell(model.path, done, len(requests))
            return found

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            def answer(context: str, continuation: str) -> tuple[float, bool]:
                try:
                    found = model.likelihood(context, continuation)
                except TooLongError as error:
                    raise _too_long(model, error) from error
                return found.total, found.is_greedy

            return self._all(requests, answer)

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
            utils: Any = importlib.import_module("lm_eval.utils")
            length = model.positions or MOST_POSITIONS

            def answer(text: str) -> float:
                total = 0.0
                for window in utils.get_rolling_token_windows(model.tokens(text), model.begin, length, 1):
                    context, continuation = utils.make_disjoint_window(window)
                    total += float(model.scores([*context, *continuation], len(context) - 1)[0].sum())
                return total

            return self._all(requests, answer)

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
            def answer(prompt: str, settings: dict[str, Any]) -> str:
                stop = settings.get("until") or []
                most = settings.get("max_gen_toks") or settings.get("max_tokens") or MOST_TOKENS
                if settings.get("do_sample") or settings.get("temperature"):
                    raise ConfigError("a task asks for sampling", "the likeliest token", "name another task")
                try:
                    return model.write(prompt, most, [stop] if isinstance(stop, str) else list(stop))
                except TooLongError as error:
                    raise _too_long(model, error) from error

            return self._all(requests, answer)

    return Adapter()


def _too_long(model: Model, error: TooLongError) -> ConfigError:
    read = f"a question of a task is too long for {model.path} ({error})"
    return ConfigError(read, f"at most {model.positions:,} tokens", "ask for fewer --shots, or name another task")
