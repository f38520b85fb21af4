"""``autotag tag-map``: tags as a map, from what a network learnt, from labels, or from texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from pipeline.console import completion
from pipeline.console.setting_options import COLUMN, DATASET, SUBSET, options
from pipeline.console.terminal import quieten_tensorflow, say
from preprocessing.constants import N_TAGS
from preprocessing.errors import BadInputError

if TYPE_CHECKING:
    from pipeline.tag_map.vectors import TagVectors
    from preprocessing.clips import AnnotatedClip
    from serving.library.layout import Method

SOURCES: Final = ("model", "annotations", "examples", "words")
SHOWN_PAIRS: Final = 5


@click.command("tag-map")
@click.option(
    "--model",
    metavar="NAME|DIR|FILE.keras",
    shell_complete=completion.models,
    help="Last layer of a listed or pushed model; or of a Trainer's network, with --tags-file as it was learnt.",
)
@click.option("--member", help="With --model: which of its networks.  [default: all]")
@click.option(
    "--annotations",
    metavar="PATH",
    shell_complete=completion.files,
    help="Labels of a data set, as --dataset has them.",
)
@click.option("--examples", type=click.Path(path_type=Path), help="Labels of a folder that `autotag preprocess` wrote.")
@click.option("--words", type=click.Path(path_type=Path), help="Word vectors as text, word2vec's or GloVe's.")
@options([DATASET, SUBSET, COLUMN])
@click.option("--synonyms", help="With --annotations: merge synonyms, by a YAML file or 'default'.")
@click.option("--tags", "n_tags", type=click.IntRange(min=1), help="How many of the most frequent tags.  [default: 50]")
@click.option("--tags-file", help="These tags alone: a file with a tag a line, or 'default', the data set's.")
@click.option(
    "--method", type=click.Choice(["tsne", "pca"]), default="tsne", show_default=True, help="For the picture."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for what is made.")
def command(n_tags: int | None, method: str, out: Path, **options: Any) -> None:
    """Draw tags as a map: near each other what a network, people or texts take for alike.

    OUT gets tag-map.png, .svg and .csv (places), and vectors.tsv, metadata.tsv and projector_config.pbtxt, which
    `tensorboard --logdir OUT` shows under Projector. The same input gives the same bytes.

    \b
    Examples:
        autotag tag-map --model musicnn-mtt --out map
        autotag tag-map --model my-run/pushed --member mel_1d --method pca --out map
        autotag tag-map --annotations mtat/annotations_final.csv --synonyms default --tags 100 --out map
        autotag tag-map --examples mtat-examples --tags-file mtat-examples/tags.txt --out map
        autotag tag-map --words glove.6B.300d.txt --tags-file default --out map
        tensorboard --logdir map
    """
    check_options(n_tags, options)
    from pipeline.tag_map.output import write_map

    vectors = vectors_of(n_tags, options)
    written = write_map(vectors, cast("Method", method), out)
    click.echo(f"{len(vectors.tags)} tags by {vectors.source}")
    pairs = ", ".join(f"{one} and {other} ({cosine:.2f})" for one, other, cosine in vectors.alike(SHOWN_PAIRS))
    click.echo(f"most alike: {pairs}")
    for tag, why in vectors.left_out.items():
        say(f"left out: {tag}: {why}")
    for note in vectors.notes:
        say(note)
    if written.nameless:
        say(f"no room for the names of {len(written.nameless)} tags: {', '.join(written.nameless)}")
    for path in written.paths:
        click.echo(f"written: {path}")


def check_options(n_tags: int | None, options: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        click.UsageError: some do not.
    """
    given = [name for name in SOURCES if options[name] is not None]
    of_labels = options["annotations"] is not None or options["examples"] is not None
    for refused, words in (
        (len(given) != 1, "give one of --model, --annotations, --examples and --words"),
        (n_tags is not None and options["tags_file"] is not None, "choose one of --tags and --tags-file"),
        (n_tags is not None and not of_labels, "--tags goes with --annotations and --examples; --tags-file with all"),
        (options["words"] is not None and options["tags_file"] is None, "--words needs --tags-file: which tags?"),
        (options["member"] is not None and options["model"] is None, "--member goes with --model"),
        (options["synonyms"] is not None and options["annotations"] is None, "--synonyms goes with --annotations"),
    ):
        if refused:
            raise click.UsageError(words)


def vectors_of(n_tags: int | None, options: dict[str, Any]) -> TagVectors:
    """The vectors that the options ask for.

    Raises:
        BadInputError: they cannot be had.
    """
    from datasets.reading import load_tags
    from pipeline.tag_map.word_vectors import read_word_vectors

    asked = options["tags_file"]
    tags = None if asked is None else load_tags(asked, options["dataset"], options["subset"])
    if tags is not None and len(set(tags)) < len(tags):
        twice = next(tag for tag in tags if tags.count(tag) > 1)
        raise BadInputError(f"tags file {asked}: has {twice!r} twice")
    if options["model"] is not None:
        return _of_model(options["model"], options["member"], tags)
    if options["words"] is not None:
        return read_word_vectors(options["words"], tags or ())
    return _of_labels(n_tags, tags, options)


def _of_model(name: str, member: str | None, tags: Sequence[str] | None) -> TagVectors:
    from pipeline.tag_map.vectors import of_model, of_network_files
    from serving.tagging.models import model_folder

    path = Path(name)
    if path.is_file():
        if tags is None or member is not None:
            raise click.UsageError(f"{name} is one network's file: give --tags-file with its tags, and no --member")
        return of_network_files({path.name: path}, tags, f"the last layer of {name}")
    quieten_tensorflow()
    vectors = of_model(model_folder(name, say), name, member)
    return vectors if tags is None else vectors.only(tags)


def _of_labels(n_tags: int | None, tags: Sequence[str] | None, options: dict[str, Any]) -> TagVectors:
    from pipeline.tag_map.vectors import of_labels
    from preprocessing.tags import check_tags, most_frequent_tags

    name, clips = _labelled_clips(options)
    if tags is not None:
        check_tags(clips, tags, name)
    else:
        used = len({tag for clip in clips for tag in clip.tags})
        tags = most_frequent_tags(clips, n_tags or max(1, min(N_TAGS, used)), name)
    synonyms = options["synonyms"]
    merged = f", synonyms merged ({synonyms})" if synonyms else ""
    return of_labels((clip.tags for clip in clips), tags, f"labels that stand together in {name}{merged}")


def _labelled_clips(options: dict[str, Any]) -> tuple[str, list[AnnotatedClip]]:
    """What to call the labels' source, and its clips."""
    from datasets.reading import read_clips
    from datasets.table import parse_column
    from pipeline.tag_map.vectors import labels_of_examples
    from preprocessing.clips import AnnotatedClip
    from preprocessing.settings import PreprocessSettings

    examples, annotations = options["examples"], options["annotations"]
    if examples is not None:
        labels = labels_of_examples(examples)
        return str(examples), [AnnotatedClip(str(at), "", tuple(tags), "") for at, tags in enumerate(labels)]
    settings = PreprocessSettings(
        dataset=options["dataset"],
        subset=options["subset"],
        columns=tuple(map(parse_column, options["column"])),
        synonyms=options["synonyms"],
    )
    return annotations, read_clips(".", annotations, settings)
