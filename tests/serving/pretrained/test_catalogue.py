from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.registry import find_network
from preprocessing.errors import BadInputError
from serving.pretrained.catalogue import (
    CATALOGUE,
    DEFAULT,
    GitFile,
    PackageFile,
    TrainedModel,
    find_trained,
    read_tag_list,
)

MODELS = pytest.mark.parametrize("model", CATALOGUE.values(), ids=lambda model: model.name)


@MODELS
def test_entry_says_what_a_user_has_to_know(model: TrainedModel) -> None:
    assert len(model.tags()) == len(set(model.tags())) in (50, 56, 188)
    assert model.licence
    assert model.data_licence
    assert model.source
    assert model.roc_auc is None or 0.5 < model.roc_auc < 1
    assert model.pr_auc is None or 0 < model.pr_auc < 1
    assert model.split or model.roc_auc is None, "a figure without its split says nothing"
    assert 30_000 < model.parameters < 20_000_000
    assert model.tried or model.notes


@MODELS
def test_network_is_one_of_the_registrys_and_has_as_many_weights_and_outputs(model: TrainedModel) -> None:
    network = find_network(model.network)
    assert network.published_parameters == model.parameters
    assert network.outputs == len(model.tags())


@MODELS
def test_every_file_has_a_checksum_and_a_fixed_place(model: TrainedModel) -> None:
    for file in model.files:
        if isinstance(file, PackageFile):
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file.digest)
        else:
            assert isinstance(file, GitFile)
            assert re.fullmatch(r"git:[0-9a-f]{40}", file.digest)
            assert re.fullmatch(r"[0-9a-f]{40}", file.commit)
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{file.commit}/{file.path}")


@MODELS
def test_weights_of_mtat_and_jamendo_carry_the_datas_non_commercial_licence(model: TrainedModel) -> None:
    assert ("non-commercial" in model.data_licence) is (model.trained_on in ("MTAT", "MTG-Jamendo"))


def test_orders_of_the_tags_are_those_of_the_published_weights() -> None:
    mtat, msd, jamendo = (find_trained(f"fcn-{data}").tags() for data in ("mtat", "msd", "jamendo"))
    assert (mtat[:4], mtat[-1]) == (("guitar", "classical", "slow", "techno"), "choral")
    assert (msd[:3], msd[-1]) == (("rock", "pop", "alternative"), "happy")
    assert list(jamendo) == sorted(jamendo)
    assert find_trained("musicnn-mtt").tags() == mtat


def test_default_is_listed_first_and_was_tried() -> None:
    assert next(iter(CATALOGUE)) == DEFAULT
    assert find_trained(DEFAULT).tried


def test_unknown_name_says_where_the_known_ones_are() -> None:
    with pytest.raises(BadInputError, match="'nope'; `autotag pretrained`"):
        find_trained("nope")


@pytest.mark.parametrize(
    ("text", "words"), [(b"", "none"), (b"a\nb\na\n", r"twice: \['a'\]"), (b"\xff\xfe", "cannot be read")]
)
def test_list_of_tags_that_is_none_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "tags.txt").write_bytes(text)
    with pytest.raises(BadInputError, match=words):
        read_tag_list(tmp_path / "tags.txt")


def test_list_is_read_without_anything_heavy() -> None:
    program = "import sys, serving.pretrained.catalogue; print({'tensorflow', 'keras', 'librosa'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
