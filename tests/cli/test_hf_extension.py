"""`hf weigh`: the real command line of the hub, where it is installed, runs this program as its extension."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HF = shutil.which("hf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))
CONFIG = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 64, "vocab_size": 50, "tie_word_embeddings": True}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of its own, with a console script as installers write it."""
    program = tmp_path / "bin" / "hf-weigh"
    program.parent.mkdir()
    script = f"#!{sys.executable}\nimport sys\nfrom weighbridge.cli.hf_extension import main\nsys.exit(main())\n"
    program.write_text(script)
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": os.defpath, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
                   "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}  # fmt: skip
    return subprocess.run(arguments, env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False)


def test_the_console_script_is_declared() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["hf-weigh"] == "weighbridge.cli.hf_extension:main"


def test_hf_weigh_alone_is_weigh(home: Path) -> None:
    done = run(home, str(home / "bin" / "hf-weigh"), "inspect", "config.json", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["family"] == "llama"
    assert "Usage: hf weigh" in run(home, str(home / "bin" / "hf-weigh"), "--help").stdout


def test_a_home_that_may_not_be_written_to_is_said(home: Path) -> None:
    (home / ".local").write_text("in the way")
    done = run(home, str(home / "bin" / "hf-weigh"), "--register")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: the folder ")


@pytest.mark.skipif(HF is None, reason="the hub's command line is not installed")
def test_hf_runs_it_once_it_is_registered(home: Path) -> None:
    assert HF is not None
    if "extensions" not in run(home, HF, "--help").stdout:
        pytest.skip("this release of the hub's command line has no extensions")
    assert run(home, str(home / "bin" / "hf-weigh"), "--register").returncode == 0
    done = run(home, HF, "weigh", "inspect", "config.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["family"] == "llama"
    assert "weigh" in run(home, HF, "extensions", "list").stdout
    assert run(home, HF, "weigh", "inspect", "no-such-file.json").returncode == 2
