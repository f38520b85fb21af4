"""setup.py and the lock files: one lock for each generation of TFX, smaller ones of the same versions for the image."""

from __future__ import annotations

import fnmatch
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "requirements"
GENERATIONS = {"py310-tfx116.txt": ("3.10", "1.16"), "py313-tfx121.txt": ("3.13", "1.21")}
IMAGE_LOCKS = ["image-cpu.txt", "image-gpu.txt"]
PACKAGES = {"preprocessing", "datasets", "models", "components", "pipeline", "serving"}
NOT_IN_PRODUCTION = {"pytest", "mypy", "ruff", "hypothesis", "pre-commit", "jupyterlab", "notebook"}


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (LOCKS / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pinned}


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    """What setup.py tells setuptools."""
    told: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **arguments: told.update(arguments))
        runpy.run_path(str(ROOT / "setup.py"))
    return told


@pytest.mark.parametrize("lock", [*GENERATIONS, *IMAGE_LOCKS])
def test_every_locked_package_has_hashes_and_no_index_is_named(lock: str) -> None:
    text = (LOCKS / lock).read_text()
    assert text.count("==") > 100
    for entry in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()):
        assert "--hash=sha256:" in entry, entry
    assert "://" not in re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    assert "--index-url" not in text


@pytest.mark.parametrize("lock", GENERATIONS)
def test_lock_holds_what_setup_py_asks_for_on_its_python(lock: str, package: dict[str, Any]) -> None:
    python, tfx = GENERATIONS[lock]
    versions = locked(lock)
    assert versions["tfx"].startswith(tfx + ".")
    extras = set(re.findall(r"--extra (\S+)", (ROOT / "Makefile").read_text())) - {"gpu"}  # of the image alone
    assert extras > {"tfx", "dev"}
    for needs in [package["install_requires"], *(package["extras_require"][name] for name in extras)]:
        for requirement in map(Requirement, needs):
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                version = versions[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(Version(version)), f"{requirement} but {version} in {lock}"


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_every_supported_python_gets_one_generation_whole(minor: int, package: dict[str, Any]) -> None:
    asked = [Requirement(need) for need in package["extras_require"]["tfx"]]
    asked = [need for need in asked if need.marker is None or need.marker.evaluate({"python_version": f"3.{minor}"})]
    names = [need.name for need in asked]
    assert len(names) == len(set(names))
    bounds = {need.name: need.specifier for need in asked}
    tfx, tensorflow = ("1.16.0", "2.16.2") if minor == 10 else ("1.21.0", "2.21.0")
    for name in ("tfx", "tensorflow-transform", "ml-metadata"):
        assert bounds[name].contains(tfx)
    assert bounds["tensorflow"].contains(tensorflow)
    assert not bounds["tfx"].contains("1.21.0" if minor == 10 else "1.16.0")


@pytest.mark.parametrize("lock", IMAGE_LOCKS)
def test_image_has_the_tested_versions_and_nothing_for_development(lock: str) -> None:
    image, tested = locked(lock), locked("py310-tfx116.txt")
    assert not NOT_IN_PRODUCTION & image.keys()
    assert image.keys() >= {"s3fs", "gcsfs"}  # workers get nothing else than the image
    renamed = {"tensorflow" if name == "tensorflow-cpu" else name: version for name, version in image.items()}
    only_image = {name for name in renamed if name not in tested}
    assert {name for name in only_image if not name.startswith("nvidia-")} == set()
    assert only_image == set() or lock == "image-gpu.txt"
    assert {name: version for name, version in renamed.items() if name in tested} == {
        name: tested[name] for name in renamed if name in tested
    }


def test_cpu_image_has_one_tensorflow_and_it_is_the_small_one() -> None:
    assert "tensorflow-cpu" in locked("image-cpu.txt")
    assert "tensorflow" not in locked("image-cpu.txt")


@pytest.mark.parametrize("extra", ["serving", "tag", "download", "engines"])
def test_beam_comes_with_preprocessing_and_the_pipeline_alone(extra: str, package: dict[str, Any]) -> None:
    def names(needs: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(need).name) for need in needs}

    extras = package["extras_require"]
    assert not names([*package["install_requires"], *extras[extra]]) & {"apache-beam", "tensorflow", "tfx"}
    assert "apache-beam" in names(extras["preprocessing"])
    assert "apache-beam" in names(extras["tfx"])
    assert names(package["install_requires"]) >= {"librosa", "scipy", "soundfile", "soxr", "google-crc32c"}  # workers


def test_what_tags_and_asks_servers_imports_no_beam() -> None:
    modules = "serving.client, serving.tagging.session, pipeline.commands.tag, pipeline.commands.serve"
    code = f"import sys; sys.modules['apache_beam'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_package_is_installed_with_its_files(package: dict[str, Any]) -> None:
    folders = {file.parent for file in ROOT.glob("*/**/__init__.py") if file.relative_to(ROOT).parts[0] in PACKAGES}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(package["packages"])
    for name in ("mtat_tags.txt", "mtat_synonyms.yaml", "py.typed"):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in package["package_data"]["datasets"])
        assert (ROOT / "datasets" / name).is_file()
    for room in PACKAGES:
        for file in (ROOT / room).rglob("descriptors.binpb"):
            assert any(file in (ROOT / room).glob(pattern) for pattern in package["package_data"][room]), file
