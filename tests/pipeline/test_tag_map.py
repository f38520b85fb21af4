"""Tags as a map: vectors of last layers and labels, places, TensorBoard's files."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from network_files import keras_file

from pipeline.cli import group
from pipeline.tag_map.output import write_map
from pipeline.tag_map.picture import MARKS, page_picture
from pipeline.tag_map.projector import METADATA_FILE, VECTORS_FILE, write_projector
from pipeline.tag_map.vectors import (
    LAST_LAYER,
    TagVectors,
    labels_of_examples,
    of_labels,
    of_layers,
    of_network_files,
    read_kernel,
)
from preprocessing.errors import BadInputError
from preprocessing.examples import encode_example, write_record
from serving.library.layout import lay_out, principal_components

TAGS = ("guitar", "strings", "woman", "female", "techno", "quiet", "slow", "hum", "no vocals", "60s")


def made_up(count: int = len(TAGS), width: int = 6) -> TagVectors:
    rows = np.random.default_rng(1).normal(size=(count, width))
    names = TAGS if count == len(TAGS) else [f"tag {number}" for number in range(count)]
    return TagVectors.of(names, rows, "a test")


def test_vectors_have_length_1_and_those_without_a_direction_are_left_out_and_said() -> None:
    vectors = TagVectors.of(list("abcd"), [[3e300, 4e300], [0, 0], [1e-300, 0], [0, -2]], "a test")
    assert vectors.tags == ("a", "c", "d")
    np.testing.assert_allclose(vectors.vectors, [[0.6, 0.8], [1, 0], [0, -1]], atol=1e-7)
    assert vectors.left_out == {"b": "its vector is zero"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 0], [0, 0], [0, 1]], r"a test: 2 tags have a vector and a map needs 3 \(b: its vector is zero\)"),
        ([[1, 0], [np.nan, 0], [0, 1]], "not finite"),
    ],
)
def test_too_few_vectors_and_such_of_no_numbers_are_refused(rows: list[list[float]], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        TagVectors.of(list("abc"), rows, "a test")


def test_some_tags_can_be_asked_for_and_unknown_ones_are_named() -> None:
    vectors = made_up().only(("slow", "woman", "hum"))
    assert vectors.tags == ("slow", "woman", "hum")
    np.testing.assert_allclose(vectors.vectors[1], made_up().vectors[2], atol=1e-6)
    with pytest.raises(BadInputError, match="a test: has no tag 'fiddle' and 1 more of the list"):
        made_up().only(("slow", "fiddle", "lute"))


def test_the_last_layers_column_is_the_tags_vector_and_places_of_a_clip_are_averaged() -> None:
    kernel = np.random.default_rng(0).normal(size=(5, 2, 4, 3)).astype("f4")
    rows = kernel.mean(axis=(0, 1)).T
    vectors = of_layers({"one": kernel}, "abc", "a test").vectors
    np.testing.assert_allclose(vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)


def test_cosines_of_several_networks_are_the_mean_of_theirs() -> None:
    random = np.random.default_rng(0)
    kernels = {"one": random.normal(size=(4, 3)), "two": 100 * random.normal(size=(7, 3))}
    each = [of_layers({name: kernel}, "abc", "a test").vectors for name, kernel in kernels.items()]
    both = of_layers(kernels, "abc", "a test").vectors
    np.testing.assert_allclose(both @ both.T, np.mean([one @ one.T for one in each], axis=0), atol=1e-6)


def test_a_layer_for_other_tags_is_refused() -> None:
    with pytest.raises(BadInputError, match="a test: one answers with 3 tags, and 2 are named"):
        of_layers({"one": np.ones((4, 3))}, "ab", "a test")


def test_the_kernel_is_read_out_of_keras_files(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("f4")
    path = keras_file(tmp_path / "a.keras", kernel)
    np.testing.assert_array_equal(read_kernel(path), kernel)
    assert of_network_files({"a": path}, "abc", "a test").tags == ("a", "b", "c")


def test_a_real_networks_file_gives_its_last_layer(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from models.outputs import LOGITS

    assert LAST_LAYER == LOGITS
    read = keras.Input((4, 2))
    answered = keras.layers.Conv1D(3, 4, name="logits")(keras.layers.Conv1D(2, 1, name="conv_1")(read))
    model = keras.Model(read, keras.layers.Flatten()(answered), name="made_up")
    model.save(tmp_path / "a.keras")
    np.testing.assert_array_equal(read_kernel(tmp_path / "a.keras"), model.get_layer("logits").get_weights()[0])


def test_files_that_are_no_networks_of_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.keras").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    other = keras_file(tmp_path / "other.keras", np.ones((4, 3)), layer="output")
    for path, message in ((tmp_path / "text.keras", "cannot be read"), (tmp_path / "empty.keras", "cannot be read"),
                          (tmp_path / "none.keras", "No such file"), (other, "has no layer 'logits'")):  # fmt: skip
        with pytest.raises(BadInputError, match=message):
            read_kernel(path)


def test_tags_that_stand_with_the_same_others_are_near_though_never_together() -> None:
    clips = [["woman", "soft", "x"], ["female", "soft", "x"], ["man", "rock", "y"], ["male", "rock", "y"]] * 5
    vectors = of_labels(clips, ["woman", "female", "man", "male", "soft", "rock", "x", "y"], "a test")
    assert vectors.source == "a test (20 clips)"
    at = {tag: vectors.vectors[number] for number, tag in enumerate(vectors.tags)}
    assert at["woman"] @ at["female"] == pytest.approx(1, abs=1e-5)
    assert at["woman"] @ at["man"] == pytest.approx(0, abs=1e-5)
    assert {frozenset(pair[:2]) for pair in vectors.alike(2)} == {
        frozenset({"woman", "female"}),
        frozenset({"man", "male"}),
    }


def test_a_tag_that_stands_alone_is_left_out_and_said() -> None:
    clips = [["a", "b"], ["b", "c"], ["a", "c"], ["hermit"], ["hermit"], ["hermit"]]
    vectors = of_labels(clips, ["a", "b", "c", "hermit", "nobody"], "a test")
    assert vectors.tags == ("a", "b", "c")
    assert set(vectors.left_out) == {"hermit", "nobody"}
    assert "stands with no other tag" in vectors.left_out["hermit"]


def test_labels_are_read_out_of_tfrecords(tmp_path: Path) -> None:
    for split, tags in (("train", ["rock", "loud"]), ("valid", ["piano"])):
        with (tmp_path / f"{split}-00000-of-00001.tfrecord").open("wb") as file:
            write_record(file, encode_example({"tags": [tag.encode() for tag in tags], "waveform": b"1234"}))
    assert list(labels_of_examples(tmp_path)) == [["rock", "loud"], ["piano"]]
    cut = tmp_path / "test-00000-of-00001.tfrecord"
    cut.write_bytes((tmp_path / "train-00000-of-00001.tfrecord").read_bytes()[:-5])
    with pytest.raises(BadInputError, match=r"test-00000-of-00001\.tfrecord: broken TFRecord"):
        list(labels_of_examples(tmp_path))
    with pytest.raises(BadInputError, match="no TFRecords"):
        list(labels_of_examples(tmp_path / "nowhere"))


def test_principal_components_are_the_widest_directions() -> None:
    rows = np.zeros((9, 5), "f4")
    rows[:, 3], rows[:, 1] = np.linspace(-1, 1, 9), np.array([1, -1, 1, -1, 0, -1, 1, -1, 1]) / 20
    places, shares = principal_components(rows)
    np.testing.assert_allclose(np.abs(places[:, 0]), np.abs(rows[:, 3]), atol=1e-6)
    np.testing.assert_allclose(np.abs(places[:, 1]), np.abs(rows[:, 1]), atol=1e-6)
    assert shares[0] > 0.95
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("count", "width"), [(3, 1), (3, 2), (4, 300), (60, 8)])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_every_number_of_tags_and_dimensions_has_places_the_same_each_time(count: int, width: int, method: str) -> None:
    vectors = made_up(count, width)
    first, second = (lay_out(vectors.vectors, method).places for _ in range(2))
    assert first.shape == (count, 2)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_tags_that_all_have_one_vector_have_places() -> None:
    vectors = TagVectors.of(list("abcd"), np.ones((4, 3)), "a test")
    for method in ("tsne", "pca"):
        assert np.isfinite(lay_out(vectors.vectors, method).places).all()


def test_tsne_keeps_clusters_together() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(3, 20), 8, axis=0) + 0.05 * random.normal(size=(24, 20))
    places = lay_out(TagVectors.of([str(number) for number in range(24)], rows, "a test").vectors, "tsne").places
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(24, np.inf))
    assert (distances.argmin(axis=1) // 8 == np.arange(24) // 8).all()


def test_every_group_has_a_mark_of_its_own_by_colour_and_by_shape() -> None:
    assert len({colour for colour, _ in MARKS.values()}) == len({shape for _, shape in MARKS.values()}) == len(MARKS)


def test_a_map_is_the_same_bytes_each_time_and_names_every_tag(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        written = write_map(made_up(), "tsne", tmp_path / folder)
        assert written.nameless == []
    names = {path.name for path in written.paths}
    assert names == {path.name for path in (tmp_path / "two").iterdir()}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    picture = (tmp_path / "one" / "tag-map.svg").read_text()
    assert all(f">{tag}<" in picture for tag in TAGS)
    assert (tmp_path / "one" / "tag-map.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "one" / "tag-map.csv").open()))
    assert [row["tag"] for row in rows] == list(TAGS)
    assert {row["tag"]: row["group"] for row in rows}["no vocals"] == "voice"


def test_the_pages_picture_takes_the_pages_colours() -> None:
    vectors = TagVectors.of(["<b>&", *TAGS[1:]], made_up().vectors, "a <test>")
    picture = page_picture(vectors, lay_out(vectors.vectors, "pca"))
    assert picture.startswith("<svg")
    assert "var(--ink)" in picture
    assert "&lt;b&gt;&amp;" in picture
    assert "<b>" not in picture


def projector(folder: Path) -> tuple[object, object]:
    """A client of TensorBoard's projector plugin on a folder, as ``tensorboard --logdir`` has it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend import application
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.projector import projector_plugin
    from werkzeug.test import Client

    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    plugin = projector_plugin.ProjectorPlugin(base_plugin.TBContext(logdir=str(folder), data_provider=provider))
    return plugin, Client(application.TensorBoardWSGI([plugin], data_provider=provider))


def test_tensorboards_projector_opens_the_files(tmp_path: Path) -> None:
    vectors = made_up()
    write_projector(vectors, tmp_path)
    plugin, client = projector(tmp_path)
    plugin._determine_is_active()
    assert plugin.is_active()
    get = "/data/plugin/projector"
    assert json.loads(client.get(f"{get}/runs").data) == ["."]
    info = json.loads(client.get(f"{get}/info?run=.").data)
    (embedding,) = info["embeddings"]
    assert embedding["tensorShape"] == list(vectors.vectors.shape)
    name = embedding["tensorName"]
    values = np.frombuffer(client.get(f"{get}/tensor?run=.&name={name}").data, "<f4").reshape(vectors.vectors.shape)
    np.testing.assert_allclose(values, vectors.vectors, atol=1e-6)
    metadata = client.get(f"{get}/metadata?run=.&name={name}").data.decode()
    assert metadata.splitlines()[:2] == ["tag\tgroup", "guitar\tinstrument"]
    assert len(metadata.splitlines()) == 1 + len(TAGS)


def test_names_with_tabs_and_line_ends_stay_one_row_each(tmp_path: Path) -> None:
    write_projector(TagVectors.of(["a\tb", "c\nd", "e"], np.eye(3), "a test"), tmp_path)
    assert (tmp_path / METADATA_FILE).read_text() == "tag\tgroup\na b\tother\nc d\tother\ne\tother\n"
    assert (tmp_path / VECTORS_FILE).read_text().splitlines()[0] == "1\t0\t0"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["tag-map", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 2 if isinstance(result.exception, BadInputError) else 1, str(result.exception)
    return result.exit_code, result.output


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """MagnaTagATune's layout: four tags, of which ``woman`` and ``female`` mean the same."""
    header = ["clip_id", "woman", "female", "rock", "soft", "loud", "mp3_path"]
    rows = [[str(n), *("1" if n % k == 0 else "0" for k in (2, 3, 4, 2, 3)), f"0/{n}.mp3"] for n in range(24)]
    path = tmp_path / "annotations_final.csv"
    path.write_text("\n".join("\t".join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\n")
    return path


def test_command_makes_a_map_of_labels(annotations: Path, tmp_path: Path) -> None:
    code, output = run("--annotations", str(annotations), "--out", str(tmp_path / "map"))
    assert code == 0, output
    assert output.startswith(f"5 tags by labels that stand together in {annotations} (24 clips)\nmost alike: ")
    assert f"written: {tmp_path / 'map' / 'projector_config.pbtxt'}" in output
    code, output = run("--annotations", str(annotations), "--synonyms", "default", "--out", str(tmp_path / "merged"))
    assert code == 0, output
    tags = [row["tag"] for row in csv.DictReader((tmp_path / "merged" / "tag-map.csv").open())]
    assert sorted(tags) == ["female", "loud", "rock", "soft"]


def test_command_makes_a_map_of_a_networks_file(tmp_path: Path) -> None:
    path = keras_file(tmp_path / "model.keras", np.random.default_rng(0).normal(size=(4, 3)))
    (tmp_path / "tags.txt").write_text("rock\npiano\nslow\n")
    arguments = ("--model", str(path), "--tags-file", str(tmp_path / "tags.txt"), "--out", str(tmp_path / "map"))
    code, output = run(*arguments, "--method", "pca")
    assert code == 0, output
    assert output.startswith(f"3 tags by the last layer of {path}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --model, --annotations, --examples and --words"),
        (["--model", "a", "--words", "b"], "give one of --model"),
        (["--words", "b"], "--words needs --tags-file"),
        (["--model", "a", "--tags", "5"], "--tags goes with"),
        (["--annotations", "a", "--tags", "5", "--tags-file", "default"], "choose one of --tags and --tags-file"),
        (["--annotations", "a", "--member", "x"], "--member goes with --model"),
        (["--model", "a", "--synonyms", "default"], "--synonyms goes with --annotations"),
        (["--model", "nowhere"], "no model at nowhere"),
        (["--annotations", "nowhere.csv"], r"annotations nowhere.csv: No such file"),
        (["--examples", "nowhere"], "examples nowhere: no TFRecords"),
        (["--words", "nowhere", "--tags-file", "default"], "nowhere: No such file"),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, output = run(*arguments, "--out", str(tmp_path / "map"))
    assert code == 2
    assert message in output
    assert not (tmp_path / "map").exists()
