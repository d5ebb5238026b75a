"""Names of a hub: asked of a double, with the variables and the cache of the hub's own client library."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.formats.hub_double import COMMIT, Answer, Asked, Double, document, safetensors_file, serve, sharded

from weighbridge.errors import SourceError
from weighbridge.formats import hub, reader
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50, "tie_word_embeddings": False}  # fmt: skip
OTHER = "f" * 40


def llama() -> dict[str, bytes]:
    """A repository with a configuration and the weights that it describes, laid out by hand."""
    architecture = inspect(LLAMA).architecture
    assert architecture is not None
    rows = {t.name: ("BF16", t.shape, 2 * t.elements) for t in architecture.tensors()}
    return {"config.json": json.dumps(LLAMA).encode(), "model.safetensors": safetensors_file(rows), "README.md": b"#"}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Double]:
    with serve({"org/llama": llama(), "org/large": sharded(20)}) as running:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint + "/")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield running


def read(name: str) -> Checkpoint:
    found = reader.read(name)
    assert found.remote is not None
    return found


def cached(home: Path, name: str, files: dict[str, bytes], revision: str = "main", commit: str = COMMIT) -> Path:
    """The shared cache as the library leaves it after a download."""
    store = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = store / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (store / "blobs").mkdir(exist_ok=True)
    for file, data in files.items():
        blob = store / "blobs" / f"{abs(hash((file, data))):040x}"
        blob.write_bytes(data)
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).symlink_to(os.path.relpath(blob, (snapshot / file).parent))
    if revision != commit:
        (store / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (store / "refs" / revision).write_text(commit)
    return store


def test_a_repository_is_weighed_by_its_headers(double: Double, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect("org/llama")
    assert found.reconciliation.status.value == "agrees" and found.source == "org/llama"
    assert found.to_json()["remote"] == {"requests": 3, "bytes": sum(map(_size, double.asked)), "cached": False,
                                         "revision": COMMIT}  # fmt: skip
    resolve = f"/org/llama/resolve/{COMMIT}"
    asked = ["/api/models/org/llama/revision/main?blobs=True", f"{resolve}/model.safetensors", f"{resolve}/config.json"]
    assert double.paths == asked
    assert capsys.readouterr().err == "asking 127.0.0.1 for org/llama\n"


def _size(asked: Asked) -> int:
    """Bytes of the body that the double sent for a request of the test above."""
    files = llama()
    name = asked.path.rpartition("/")[2]
    if name in files:
        return len(files[name])
    siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
    return len(document({"id": "x", "sha": COMMIT, "siblings": siblings}).body)


def test_shards_are_read_without_the_index_where_their_numbers_say_enough(double: Double) -> None:
    found = read("org/large")
    assert len(found.tensors) == 40 and len(found.files) == 20
    assert found.remote is not None and found.remote.requests == 21
    assert any("the index was not asked for" in note for note in found.notes)


def test_the_index_is_read_where_the_numbers_do_not(double: Double) -> None:
    files = double.repositories["org/large"]
    files["model.safetensors.index.json"] = files["model.safetensors.index.json"].replace(b"00020-of-00020", b"extra")
    files["model-extra.safetensors"] = files.pop("model-00020-of-00020.safetensors")
    assert len(read("org/large").tensors) == 40
    assert any("index.json" in path for path in double.paths)


def test_a_revision_is_asked_for_by_its_name(double: Double) -> None:
    read("org/llama@refs/pr/1")
    assert double.paths[0] == "/api/models/org/llama/revision/refs%2Fpr%2F1?blobs=True"
    with pytest.raises(SourceError, match="org/llama has no revision 'v2'"):
        read("org/llama@v2")


def test_the_pages_of_the_hub_are_understood(double: Double) -> None:
    assert len(read(f"{double.endpoint}/org/llama").tensors) == len(
        read(f"{double.endpoint}/org/llama/tree/main").tensors
    )
    assert len(read(f"{double.endpoint}/org/llama/blob/main/model.safetensors").tensors) > 2
    assert double.paths[-2] == "/org/llama/resolve/main/model.safetensors"


def test_the_token_goes_to_the_hub_and_not_to_its_content_network(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({}, host="127.0.0.2") as network:
        double.network, double.token = network, "hf_secret"
        monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
        assert len(read("org/llama").tensors) > 2
        assert all(asked.headers["authorization"] == "Bearer hf_secret" for asked in double.asked)
        assert network.asked and all("authorization" not in asked.headers for asked in network.asked)


def test_another_port_of_the_same_host_is_another_place(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({}) as network:
        double.network = network
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        read("org/llama")
        assert network.asked and all("authorization" not in asked.headers for asked in network.asked)


def test_a_token_does_not_come_back_after_it_left(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect away and back: whoever stood between has chosen the path."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve({}) as network:
        network.twist = lambda asked, answer, before: Answer(302, {"Location": f"{double.endpoint}/api/whoami"})
        double.network = network
        with pytest.raises(SourceError):
            read("org/llama")
    assert double.paths[-1] == "/api/whoami" and "authorization" not in double.asked[-1].headers


def test_an_address_of_the_hub_gets_the_token_and_another_does_not(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    reader.read(f"{double.endpoint}/org/llama/resolve/main/model.safetensors")
    assert double.asked[0].headers["authorization"] == "Bearer hf_secret"
    with serve({"files": llama()}) as elsewhere:
        reader.read(f"{elsewhere.endpoint}/files/model.safetensors")
        assert all("authorization" not in asked.headers for asked in elsewhere.asked)


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path)}
    assert hub.settings(home).token is None
    (tmp_path / "token").write_text("hf_file\n")
    assert hub.settings(home).token == "hf_file"
    assert hub.settings(home | {"HUGGING_FACE_HUB_TOKEN": "hf_old"}).token == "hf_old"
    assert hub.settings(home | {"HUGGING_FACE_HUB_TOKEN": "hf_old", "HF_TOKEN": "hf_new"}).token == "hf_new"
    assert hub.settings(home | {"HF_TOKEN": "hf_new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"}).token is None
    (tmp_path / "other").write_text("hf_other")
    assert hub.settings(home | {"HF_TOKEN_PATH": str(tmp_path / "other")}).token == "hf_other"
    assert "hf_" not in repr(hub.settings(home)) + repr(hub.settings(home).client())
    with pytest.raises(SourceError) as error:
        hub.settings(home | {"HF_TOKEN": "hf_\r\nX-Evil: 1 \x00"})
    assert "Evil" not in str(error.value)


def test_where_the_cache_lies() -> None:
    home = Path("~").expanduser()
    assert hub.settings({}).cache == home / ".cache/huggingface/hub"
    assert hub.settings({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/huggingface/hub")
    assert hub.settings({"HF_HOME": "~/h"}).cache == home / "h/hub"
    assert hub.settings({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}).cache == Path("/old")
    assert hub.settings({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}).cache == Path("/new")
    assert hub.settings({"HF_HUB_OFFLINE": "yes"}).is_offline and hub.settings({"TRANSFORMERS_OFFLINE": "1"}).is_offline
    assert not hub.settings({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}).is_offline
    assert hub.settings({}).endpoint == "https://huggingface.co"


def test_private_and_missing_repositories(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"org/none is no path, no name of the catalogue, and no repository that 127"):
        read("org/none")
    double.token = "hf_secret"
    with pytest.raises(SourceError, match=r"shows without a token.*if it is private, set HF_TOKEN"):
        read("org/llama")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(SourceError, match="shows with this token") as error:
        read("org/llama")
    assert "hf_wrong" not in str(error.value)
    double.twist = lambda *_: Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
    with pytest.raises(SourceError, match="the hub does not know the token"):
        read("org/llama")


def test_gated_and_disabled_repositories(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    double.gated.add("org/llama")
    with pytest.raises(SourceError, match=r"org/llama is gated, and no token was sent.*ask for access at http"):
        read("org/llama")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(SourceError, match="org/llama is gated, and the token has no access"):
        read("org/llama")
    double.twist = lambda *_: Answer(403, {"X-Error-Message": "Access to this resource is disabled."})
    with pytest.raises(SourceError, match="has been disabled"):
        read("org/llama")


def test_a_file_that_the_listing_names_and_the_hub_does_not_have(double: Double) -> None:
    def without(asked: Asked, answer: Answer, before: int) -> Answer | None:
        if asked.path.endswith("model.safetensors"):
            return Answer(404, {"X-Error-Code": "EntryNotFound"})
        return None

    double.twist = without
    with pytest.raises(SourceError, match=r"org/llama/model\.safetensors is not in the repository"):
        read("org/llama")


def test_a_hub_without_the_first_address_is_asked_for_the_tree_in_pages(double: Double) -> None:
    def simple(asked: Asked, answer: Answer, before: int) -> Answer | None:
        return Answer(404) if "/revision/" in asked.path else None

    double.twist, double.page = simple, 6
    found = read("org/large")
    assert len(found.tensors) == 40 and found.remote is not None and found.remote.revision == "main"
    assert sum("/tree/main" in path for path in double.paths) == 4
    assert any("does not say which commit" in note for note in found.notes)


def test_busy_answers_are_asked_again(double: Double) -> None:
    def busy(asked: Asked, answer: Answer, before: int) -> Answer | None:
        return Answer(429, {"Retry-After": "0"}) if before % 2 == 0 else None

    double.twist = busy
    assert len(read("org/llama").tensors) > 2


# --- the shared cache -----------------------------------------------------------------------------------------------


def test_offline_the_cache_is_read_with_no_request(
    double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached(tmp_path / "hf", "org/llama", llama())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = inspect("org/llama")
    assert found.reconciliation.status.value == "agrees"
    assert found.to_json()["remote"] == {"requests": 0, "bytes": 0, "cached": True, "revision": COMMIT}
    assert len(read(f"org/llama@{COMMIT}").tensors) == len(found.checkpoint.tensors)
    assert double.asked == []
    for name in ("org/other", "org/llama@v2", f"org/llama@{OTHER}"):
        with pytest.raises(SourceError, match=r"is not in the cache.*HF_HUB_OFFLINE forbids"):
            read(name)


def test_the_library_s_own_cache_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """References with slashes and files in folders, as `hf_hub_download` lays them out."""
    cached(
        tmp_path / "hf", "org/parts", {"a/config.json": b"{}", "config.json": json.dumps(LLAMA).encode()}, "refs/pr/1"
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert read("org/parts@refs/pr/1").config == LLAMA


def test_online_files_of_the_commit_that_lie_in_the_cache_are_not_asked_for(double: Double, tmp_path: Path) -> None:
    files = llama()
    cached(tmp_path / "hf", "org/llama", {"model.safetensors": files["model.safetensors"]})
    assert read("org/llama").remote is not None
    assert double.paths == [
        "/api/models/org/llama/revision/main?blobs=True",
        f"/org/llama/resolve/{COMMIT}/config.json",
    ]
    cached(tmp_path / "hf2", "org/llama", {}, commit=OTHER)  # of another commit nothing is taken


def test_a_commit_with_its_listing_in_the_cache_needs_no_request(double: Double, tmp_path: Path) -> None:
    files = llama()
    store = cached(tmp_path / "hf", "org/llama", files)
    (store / "trees").mkdir()
    entries = {file: {"size": len(data), "blob_id": "0"} for file, data in files.items()}
    (store / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": entries}))
    found = read(f"org/llama@{COMMIT}")
    assert double.asked == [] and found.remote is not None and found.remote.cached


def test_when_the_hub_fails_the_cache_is_read_and_it_says_so(double: Double, tmp_path: Path) -> None:
    cached(tmp_path / "hf", "org/llama", llama())
    double.twist = lambda asked, answer, before: Answer(401)
    found = read("org/llama")
    assert found.remote is not None and found.remote.cached
    assert any("the hub was asked and did not help" in note for note in found.notes)
    double.twist = None
    with pytest.raises(SourceError, match="has no revision"):  # the hub knows better than the cache
        read("org/llama@v2")


def test_nothing_is_written_to_the_cache(double: Double, tmp_path: Path) -> None:
    read("org/llama")
    assert not (tmp_path / "hf").exists()


def test_a_cache_that_may_not_be_read_is_no_hindrance(
    double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = cached(tmp_path / "hf", "org/llama", llama())
    (store / "refs" / "main").unlink()
    (store / "refs" / "main").mkdir()
    assert len(read("org/llama").tensors) > 2

    def forbidden(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", forbidden)
    double.asked.clear()
    assert len(reader._read_remote("org/llama").tensors) > 2 and len(double.asked) == 3


@pytest.mark.parametrize("content", ["", "../../../etc", "short", "0" * 41, "G" * 40])
def test_a_reference_that_is_no_commit_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    store = cached(tmp_path / "hf", "org/llama", llama())
    (store / "refs" / "main").write_text(content)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(SourceError, match="is not in the cache"):
        read("org/llama")


def test_names_of_repositories() -> None:
    good = ("org/name", "org/name@main", "org/name@refs/pr/1", "a/b", "01-ai/Yi-34B", "org/n.a_m-e", "org/name@v1.0+x")
    bad = ("name", "org/", "/name", "org/name/", "a/b/c", "../name", "org/..", "org/na--me", "org/name.git",
           "org/-name-",
           "org/name@", "org/name@../x", "org/name@a//b", "org/name@/x", "org/name@a b", "org/näme", "org/name\n",
           "org/name@x\n", ".org/name", "o" * 60 + "/" + "n" * 60, "C:/name", "org\\name")  # fmt: skip
    assert all(map(hub.is_name, good))
    assert not any(map(hub.is_name, bad))


def test_a_catalogue_name_is_not_asked_for(double: Double) -> None:
    """`org/name` that the catalogue knows is the catalogue's; with a revision it is the hub's."""
    assert reader.read("meta-llama/Llama-2-70b-hf").remote is None
    assert double.asked == []
    with pytest.raises(SourceError):
        reader.read("meta-llama/Llama-2-70b-hf@main")
    assert len(double.asked) == 1


@pytest.mark.parametrize(
    "name", ["models/llama.gguf", "models/model.safetensors", "models/config.json", "llama", "a/b/c"]
)
def test_what_looks_like_a_file_is_not_asked_for(double: Double, name: str) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        reader.read(name)
    assert double.asked == []


def test_a_path_comes_before_a_name(double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "org" / "llama").mkdir(parents=True)
    (tmp_path / "org" / "llama" / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    assert reader.read("org/llama").remote is None and double.asked == []


# --- beside the library itself ---------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="the hub's library is not installed")
def test_what_the_library_downloads_is_read_offline(
    double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library itself fetches from the double and lays out the cache."""
    program = "import huggingface_hub as h; print(h.snapshot_download('org/llama', revision='refs/pr/1'))"
    environment = {"HF_ENDPOINT": double.endpoint, "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path),
                   "PATH": os.defpath, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    double.asked.clear()
    online = read(f"org/llama@{COMMIT}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = read("org/llama@refs/pr/1")
    assert online.tensors == offline.tensors and len(offline.tensors) > 2 and offline.config == LLAMA
    assert double.asked == [] and online.remote is not None and online.remote.cached
