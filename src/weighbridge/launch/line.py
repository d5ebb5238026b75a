"""What is a launch? A program with its arguments, the files that it reads beside them, and what it cannot be told."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.planning import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command line. `files` are texts by the names that the arguments call them; `version` is where the options were
    read, as repository, file and commit.

    Example:
        >>> Launch(program="engine", arguments=("--model", "my model"), version="").line
        "engine --model 'my model'"
    """

    program: str
    arguments: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line for a shell, quoted."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join([self.program, *self.arguments])])

    def to_json(self) -> dict[str, Any]:
        """The key `launch` of the JSON document."""
        return {"program": self.program, "arguments": list(self.arguments), "environment": dict(self.environment),
                "files": dict(self.files), "line": self.line, "notes": list(self.notes),
                "version": self.version}  # fmt: skip


def running(plan: Plan) -> int:
    """Sequences that the plan has in the machine at once, at most."""
    service = plan.service
    return min(service.sequences, service.max_sequences or service.sequences)


def running_each(plan: Plan) -> int:
    """Of these, those of one copy of the attention."""
    return math.ceil(running(plan) / plan.machine.data_parallel)


def yaml(document: Mapping[str, Any]) -> str:
    """A document of mappings, texts, numbers and lists of them as YAML: JSON's scalars and lists are YAML's too.

    Example:
        >>> print(yaml({"a": {"dtype": "fp8", "places": ["x"]}, "on": True}))
        a:
          dtype: "fp8"
          places: ["x"]
        on: true
        <BLANKLINE>
    """
    return "".join(f"{line}\n" for line in _yaml_lines(document, ""))


def _yaml_lines(document: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}"
