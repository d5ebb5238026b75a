"""What does a name such as `org/name@revision` mean? A repository of a model hub, read file by file in ranges.

The variables, the cache and the addresses are those of the hub's own client library (huggingface/huggingface_hub,
`constants.py`, `file_download.py`, `_snapshot_download.py`, `utils/_auth.py`, `utils/_http.py`, releases 1.29 and 2.4):

- `{endpoint}/api/models/{repo}/revision/{revision}` gives the commit and the files, `.../tree/{revision}` the files
  alone, a page at a time; `{endpoint}/{repo}/resolve/{commit}/{file}` is a file, often by a redirect elsewhere.
- The cache holds `models--org--name/refs/{revision}` (a commit), `snapshots/{commit}/{file}` (links to `blobs`) and
  `trees/{commit}.json` (the listing of a commit). A commit never changes, so what the cache has of it is read there.
  The cache is only read: it is made of whole files, and of a whole file only the header is asked for here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from weighbridge.errors import FormatError, SourceError, WeighbridgeError
from weighbridge.formats import json_text
from weighbridge.formats.addresses import environment_proxies, origin, shown
from weighbridge.formats.byte_source import ByteSource, Folder, LocalFile, LocalFolder, check_name
from weighbridge.formats.checkpoint import Remote
from weighbridge.formats.http_client import Client, CutError, Limits, Response
from weighbridge.formats.http_file import HttpFile, folder_of, plain_refusal

ENDPOINT = "https://huggingface.co"
MAX_LISTING_BYTES = 64 * 2**20
MAX_LISTING_ITEMS = 2_000_000
MAX_PAGES = 200
MAX_FILES = 500_000
"""Of a repository; the hub itself advises against more than 100,000."""
WORKERS = 8
"""Files that are asked for at once; the library's own number."""

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9_])(?:@(?P<revision>.+))?", re.ASCII)
_REVISION = re.compile(r"[\w.+-][\w.+/@-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NEXT = re.compile(r'<([^<>]{1,4000})>\s*;\s*rel="next"')
_LOG_IN = "set HF_TOKEN to a token that may, or log in with `hf auth login`"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says of the hub."""

    endpoint: str
    cache: Path
    is_offline: bool = False
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 10.0
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)

    def client(self) -> Client:
        """A client that shows the token to the hub itself and to nobody else."""
        tokens = {} if self.token is None else {origin(self.endpoint): self.token}
        return Client(tokens, Limits(idle_s=self.timeout_s), self.proxies)


def settings(environment: Mapping[str, str]) -> Settings:
    """The settings that the variables of the hub's client library give.

    Raises:
        SourceError: when the token cannot be one.
    """

    def path(variable: str, otherwise: Path) -> Path:
        return Path(os.path.expandvars(Path(environment.get(variable) or otherwise).expanduser()))

    def is_true(variable: str) -> bool:
        return environment.get(variable, "").upper() in _TRUE

    home = path("HF_HOME", Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = path("HF_HUB_CACHE", path("HUGGINGFACE_HUB_CACHE", home / "hub"))
    token = None
    if not is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        token = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN")
        token = _clean(token) or _token_file(path("HF_TOKEN_PATH", home / "token"))
    timeout = environment.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
    return Settings(
        endpoint=(environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"),
        cache=cache,
        is_offline=is_true("HF_HUB_OFFLINE") if environment.get("HF_HUB_OFFLINE") else is_true("TRANSFORMERS_OFFLINE"),
        token=token,
        timeout_s=float(timeout) if re.fullmatch("[1-9][0-9]{0,3}", timeout) else 10.0,
        proxies=environment_proxies(environment),
    )


def _clean(token: str | None) -> str | None:
    token = (token or "").replace("\r", "").replace("\n", "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise SourceError("the token of the hub holds characters that no token has", "letters, digits and signs",
                          "set HF_TOKEN again, or unset it")  # fmt: skip
    return token or None


def _token_file(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            return _clean(file.read(4096))
    except (OSError, ValueError):
        return None


def is_name(text: str) -> bool:
    """Whether a text has the form of a repository's name, with or without a revision.

    Example:
        >>> [is_name(t) for t in ("org/name", "org/name@refs/pr/1", "name", "a/b/c", "../name", "org/na--me")]
        [True, True, False, False, False, False]
    """
    match = _NAME.fullmatch(text)
    return match is not None and _is_repository(match["repository"]) and _is_revision(match["revision"] or "main")


def _is_repository(text: str) -> bool:
    return len(text) <= 96 and "--" not in text and ".." not in text and not text.endswith(".git")


def _is_revision(text: str) -> bool:
    parts = text.split("/")
    return _REVISION.fullmatch(text) is not None and not {"", ".", ".."}.intersection(parts) and ".." not in text


@dataclass(slots=True)
class Place:
    """What a name or an address stands for: a folder, the file in it that was named, and who asks for them."""

    folder: Folder
    file: str | None
    client: Client
    revision: str | None = None
    notes: tuple[str, ...] = ()

    def remote(self) -> Remote:
        """What reading it took so far."""
        traffic = self.client.traffic
        is_cached = isinstance(self.folder, LocalFolder)
        if isinstance(self.folder, HubFolder):
            is_cached = self.folder.hub.from_cache > 0 and self.folder.hub.from_hub == 0
        return Remote(traffic.requests, traffic.bytes_read, is_cached, self.revision)


def find(text: str, endings: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> Place:
    """The place behind an address of `http` or `https`, or behind a repository's name.

    An address of a page of the hub is that of the repository or of the file that it shows. Who is asked is said on
    standard error.

    Args:
        text: the address or the name.
        endings: of files; a name that has one of them is no repository's.
        environment: the variables of the hub's client library.

    Raises:
        SourceError: when there is nothing, or it may not be read, or nobody answers.
    """
    found = settings(environment)
    if text.startswith(("http://", "https://")):
        named = _page(text, found, endings) or text
        if named.startswith(("http://", "https://")):
            return _file(named, found)
        text = named
    match = _NAME.fullmatch(text)
    assert match is not None, "the caller has asked `is_name`"
    return _repository(match["repository"], match["revision"] or "main", found)


def _file(url: str, found: Settings) -> Place:
    """The place of one file behind an address."""
    client = found.client()
    folder, file = folder_of(client, url)
    if found.is_offline:
        read = f"{shown(url)} lies behind a network, and HF_HUB_OFFLINE is set"
        raise SourceError(read, "a path on this machine", "unset it, or download the file and name it here")
    _tell(f"asking {urlsplit(url).hostname} for {file}")
    return Place(folder, file, client)


def _page(url: str, found: Settings, endings: tuple[str, ...]) -> str | None:
    """For a page of the hub the repository's name, or the address of the file that it shows; None for what is none.

    Example:
        >>> _page("https://huggingface.co/org/name/blob/main/a.gguf", settings({}), (".gguf",))
        'https://huggingface.co/org/name/resolve/main/a.gguf'
        >>> _page("https://huggingface.co/org/name", settings({}), (".gguf",))
        'org/name'
    """
    if not url.startswith(found.endpoint + "/"):
        return None
    parts = re.split("[?#]", url[len(found.endpoint) + 1 :])[0].strip("/").split("/")
    if len(parts) == 2 and is_name("/".join(parts)) and not parts[1].lower().endswith(endings):
        return "/".join(parts)
    if len(parts) == 4 and parts[2] == "tree" and is_name(name := f"{parts[0]}/{parts[1]}@{unquote(parts[3])}"):
        return name
    if len(parts) >= 5 and parts[2] == "blob":
        return "/".join([found.endpoint, *parts[:2], "resolve", *parts[3:]])
    return None


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- a repository ---------------------------------------------------------------------------------------------------


def _repository(name: str, revision: str, found: Settings) -> Place:
    client = found.client()
    store = found.cache / f"models--{name.replace('/', '--')}"
    if found.is_offline:
        cached = _cached(store, revision, client)
        if cached is None:
            raise SourceError(
                f"{name} is no path, and its revision {revision} is not in the cache {found.cache}, "
                "outside which HF_HUB_OFFLINE forbids to look",
                "a path, a name that `weigh models` lists, or a repository that was downloaded",
                "check the spelling, or unset HF_HUB_OFFLINE",
            )
        return cached
    hub = Hub(client, found, name)
    if urlsplit(found.endpoint).scheme not in ("http", "https") or not urlsplit(found.endpoint).hostname:
        raise SourceError(f"HF_ENDPOINT is {found.endpoint[:100]!r}", "an address such as https://huggingface.co",
                          "correct it, or unset it")  # fmt: skip
    _tell(f"asking {urlsplit(found.endpoint).hostname} for {name}" + (f"@{revision}" if revision != "main" else ""))
    try:
        commit, files = hub.listing(revision, store)
    except WeighbridgeError as error:
        client.close()
        cached = None if isinstance(error, RevisionError) else _cached(store, revision, client)
        if cached is None:
            raise
        cached.notes += (f"the hub was asked and did not help ({error.read})",)
        return cached
    is_pinned = _COMMIT.fullmatch(commit) is not None
    notes = () if is_pinned else (f"the hub does not say which commit {revision} is: files may come from several",)
    folder = HubFolder(hub, commit, files, store / "snapshots" / commit if is_pinned else None)
    return Place(folder, None, client, commit, notes)


def _cached(store: Path, revision: str, client: Client) -> Place | None:
    """The snapshot of a revision in the shared cache."""
    commit = revision if _COMMIT.fullmatch(revision) else _small(store / "refs" / revision)
    if commit is None or not _COMMIT.fullmatch(commit):
        return None
    snapshot = store / "snapshots" / commit
    if not _is_there(snapshot):
        return None
    note = f"read from the shared cache, commit {commit[:12]}: it may hold only some of the repository's files"
    return Place(LocalFolder(snapshot), None, client, commit, (note,))


def _is_there(path: Path) -> bool:
    """Whether the cache holds something; what may not be looked at is not there."""
    try:
        return path.exists()
    except OSError:
        return False


def _small(path: Path) -> str | None:
    """The text of a small file of the cache."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(1000).strip()
    except (OSError, ValueError):
        return None


class RevisionError(SourceError):
    """The repository is there, and the revision is not."""


@dataclass(slots=True)
class Hub:
    """One repository, as the hub tells of it."""

    client: Client
    settings: Settings
    name: str
    from_cache: int = 0
    """Files that were opened in the shared cache."""
    from_hub: int = 0
    """Files that were opened at the hub."""

    def listing(self, revision: str, store: Path) -> tuple[str, dict[str, int | None]]:
        """The commit of a revision, and its files with their sizes where they are told.

        Raises:
            RevisionError: when there is no such revision.
            SourceError: when there is no such repository, or it may not be read, or the hub does not answer.
        """
        if _COMMIT.fullmatch(revision):
            known = _tree_of(store / "trees" / f"{revision}.json")
            if known is not None:
                return revision, known
        api = f"{self.settings.endpoint}/api/models/{self.name}"
        path = quote(revision, safe="")
        response = self._get(f"{api}/revision/{path}?blobs=True")
        about: object = {}
        if response.status == 200:
            about = self._json(response)
        elif response.status != 404 or "x-error-code" in response.headers:
            raise self.refusal(response, revision)
        about = about if isinstance(about, dict) else {}
        commit = about.get("sha")
        commit = commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else revision
        if _COMMIT.fullmatch(revision) and commit != revision:
            raise SourceError(f"the hub answers with commit {commit} of {self.name} where {revision} was asked for",
                              "the commit that was named", "do not use this hub")  # fmt: skip
        siblings = about.get("siblings")
        if isinstance(siblings, list) and siblings:
            return commit, _files(siblings, "rfilename")
        return commit, self._tree(f"{api}/tree/{quote(commit, safe='')}?recursive=true", revision)

    def _tree(self, url: str, revision: str) -> dict[str, int | None]:
        """The files of a commit, page by page."""
        files: dict[str, int | None] = {}
        for _ in range(MAX_PAGES):
            response = self._get(url)
            if response.status != 200:
                raise self.refusal(response, revision)
            page = self._json(response)
            if not isinstance(page, list):
                raise FormatError(f"the hub lists the files of {self.name} as no list", "a list", "try again later")
            files |= _files(page, "path")
            if len(files) > MAX_FILES:
                raise SourceError(f"{self.name} has more than {MAX_FILES:,} files", "fewer", "name a file's address")
            following = _NEXT.search(response.headers.get("link", ""))
            if following is None:
                return files
            url = urljoin(url, following[1])
            if origin(url) != origin(self.settings.endpoint):
                raise SourceError(
                    f"the hub continues its list at {shown(url)}", "its own address", "do not use this hub"
                )
        raise SourceError(f"{self.name} has more than {MAX_PAGES} pages of files", "fewer", "name a file's address")

    def _get(self, url: str) -> Response:
        """An answer in full; one that broke off is asked for once more."""
        try:
            return self.client.get(url, most=MAX_LISTING_BYTES)
        except CutError:
            return self.client.get(url, most=MAX_LISTING_BYTES)

    def _json(self, response: Response) -> object:
        if not response.is_whole:
            raise SourceError(f"the hub tells more than {MAX_LISTING_BYTES:,} bytes of {self.name}", "fewer",
                              "name a file's address")  # fmt: skip
        found: object = json_text.parse(
            response.body, f"what the hub tells of {self.name}", max_items=MAX_LISTING_ITEMS
        )
        return found

    def address(self, commit: str, path: str) -> str:
        """Where a file of a commit is."""
        return f"{self.settings.endpoint}/{self.name}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def refusal(self, response: Response, revision: str) -> SourceError:
        """What a refusal of the hub means, by the code that it sends, and what can be done."""
        code = response.headers.get("x-error-code", "")
        told = response.headers.get("x-error-message", "")
        page = f"{shown(self.settings.endpoint)}/{self.name}"
        has_token = self.settings.token is not None
        if code == "RevisionNotFound":
            return RevisionError(f"{self.name} has no revision {revision!r}", "a branch, a tag or a commit of it",
                                 f"see {page}")  # fmt: skip
        if code == "GatedRepo":
            action = f"ask for access at {page}" + ("" if has_token else f", and {_LOG_IN}")
            return SourceError(f"{self.name} is gated, and " + ("the token has no access to it" if has_token
                               else "no token was sent"), "a repository that may be read", action)  # fmt: skip
        if told == "Access to this resource is disabled.":
            return SourceError(
                f"{self.name} has been disabled by the hub", "a repository that may be read", f"see {page}"
            )
        if code == "RepoNotFound" or (code == "" and response.status in (401, 404)):
            if "Invalid" in told and response.status == 401:
                return SourceError("the hub does not know the token that was sent", "a valid token",
                                   "set HF_TOKEN again, or unset it")  # fmt: skip
            return SourceError(
                f"{self.name} is no path, no name of the catalogue, and no repository that {page.split('/')[2]} shows "
                + ("with this token" if has_token else "without a token"),
                "a path, a name that `weigh models` lists, or org/name of a hub",
                "check the spelling; if it is private, " + _LOG_IN,
            )
        if response.status == 403:
            return SourceError(f"{self.name} may not be read" + (f" ({told[:200]})" if told else ""),
                               "a token with this right" if has_token else "a token", _LOG_IN)  # fmt: skip
        return plain_refusal(response, self.name)

    def file_refusal(self, response: Response, name: str) -> SourceError:
        """The same for a file."""
        if response.headers.get("x-error-code") == "EntryNotFound":
            return SourceError(f"{name} is not in the repository", "a file of it", "check the name")
        if response.headers.get("x-error-code") or response.status in (401, 403):
            return self.refusal(response, "")
        return plain_refusal(response, name)


def _files(entries: Iterable[object], key: str) -> dict[str, int | None]:
    """Paths and sizes of a listing; folders, and names that no folder could hold, are left out."""
    files: dict[str, int | None] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("type", "file") != "file":
            continue
        path, size = entry.get(key), entry.get("size")
        if isinstance(path, str) and len(path) < 1000 and _is_inside(path):
            files[path] = size if type(size) is int and 0 <= size < 2**63 else None
    return files


def _is_inside(path: str) -> bool:
    try:
        for part in path.split("/"):
            check_name("", part)
    except FormatError:
        return False
    return True


def _tree_of(path: Path) -> dict[str, int | None] | None:
    """The listing of a commit that the library has kept in the cache."""
    try:
        if path.stat().st_size > MAX_LISTING_BYTES:
            return None
        kept = json_text.parse(path.read_bytes(), str(path), max_items=MAX_LISTING_ITEMS)
    except (OSError, ValueError, FormatError):
        return None
    entries = kept.get("files") if isinstance(kept, dict) and kept.get("format_version") == 1 else None
    if not isinstance(entries, dict):
        return None
    rows = [{"path": name, **about} for name, about in entries.items() if isinstance(about, dict)]
    return _files(rows, "path")


class HubFolder:
    """A folder of a repository at one commit: what lies in the shared cache from there, the rest from the hub."""

    workers = WORKERS

    def __init__(
        self, hub: Hub, commit: str, files: Mapping[str, int | None], snapshot: Path | None, prefix: str = ""
    ) -> None:
        self.hub, self._commit, self._files, self._snapshot, self._prefix = hub, commit, files, snapshot, prefix
        self._open: dict[str, ByteSource] = {}

    @property
    def name(self) -> str:
        """The repository, and the folder in it."""
        return f"{self.hub.name}/{self._prefix}".rstrip("/")

    def names(self) -> Iterable[str]:
        """The files in it, sorted."""
        inside = (path.removeprefix(self._prefix) for path in self._files if path.startswith(self._prefix))
        return sorted(name for name in inside if "/" not in name)

    def open(self, name: str) -> ByteSource:
        """The file of this name; nothing is asked of the hub yet."""
        check_name(self.name, name)
        if name not in self._open:
            self._open[name] = self._source(self._prefix + name)
        return self._open[name]

    def _source(self, path: str) -> ByteSource:
        if path not in self._files:
            raise SourceError(f"{self.name} has no file {path.rpartition('/')[2]}", "a file of that name",
                              "see the repository's files")  # fmt: skip
        if self._snapshot is not None and _is_there(self._snapshot / path):
            self.hub.from_cache += 1
            return LocalFile(self._snapshot / path)
        self.hub.from_hub += 1
        url = self.hub.address(self._commit, path)
        return HttpFile(self.hub.client, url, f"{self.hub.name}/{path}", self._files[path], self.hub.file_refusal)

    def place_of(self, name: str) -> str:
        """The address."""
        return self.hub.address(self._commit, self._prefix + name)

    def below(self, name: str) -> HubFolder:
        """The folder of this name in it."""
        check_name(self.name, name)
        return HubFolder(self.hub, self._commit, self._files, self._snapshot, f"{self._prefix}{name}/")
