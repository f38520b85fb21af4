"""``autotag import``: trained weights of a known network become a pushed version."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.console import completion
from serving.pretrained.catalogue import THRESHOLD


@click.command("import", short_help="Make a pushed version of trained weights.")
@click.argument("network", shell_complete=completion.networks)
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--tags", "tags_file", type=click.Path(path_type=Path), required=True, help="The outputs' tags, one a line."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of versions.  [default: imported/NETWORK]")
@click.option("--variant", default="", help="Which of several sets of weights in the file.")
@click.option("--trained-on", default="unknown", show_default=True, help="The data set, for the model's card.")
@click.option("--licence", default="unknown", show_default=True, help="Of the weights, for the model's card.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=THRESHOLD,
    show_default=True,
    help="From which probability on a tag counts as heard.",
)
@click.option(
    "--evaluate",
    "config",
    type=click.Path(),
    help="A configuration: measure the version on its test split, and push it there if it passes its gate.",
)
@click.option(
    "--same-tags",
    type=click.Path(),
    help="--evaluate: YAML of tags that mean the same in model and data, such as 'vocal: [instrument---voice]'.",
)
def command(
    network: str,
    weights: Path,
    tags_file: Path,
    out: Path | None,
    variant: str,
    trained_on: str,
    licence: str,
    threshold: float,
    config: str | None,
    same_tags: str | None,
) -> None:
    """Make a pushed version of WEIGHTS that NETWORK was trained to, and print where it is.

    WEIGHTS are a TensorFlow 1 checkpoint (or a wheel that holds one), a .pth of PyTorch, Keras' own files, or what else
    `serving.pretrained` reads. The version can be served, promoted, exported and tagged with.

    --evaluate scores the tags that model and data share, by their names without category, case and punctuation
    (genre---hiphop is Hip-Hop), and says which these are.

    \b
    Example:
        autotag import fcn best_model.pth --tags tags.txt --trained-on MTAT --licence MIT
        autotag import fcn best_model.pth --tags tags.txt --evaluate pipeline/configs/mtat.yaml
    """
    from datasets.reading import load_synonyms
    from pipeline.console.terminal import quieten_tensorflow
    from pipeline.paths import check_paths
    from pipeline.settings.config import load_config
    from preprocessing.clip_format import PAPER_CLIP
    from serving.model_info import Origin
    from serving.pretrained.catalogue import read_tag_list
    from serving.pretrained.importing import UNMEASURED, Weights, import_weights, unmeasured_data

    quieten_tensorflow()
    settings = load_config(config, ()) if config is not None else None
    if settings is not None:
        check_paths(settings)
    origin = Origin(weights.name, f"imported from {weights.name}", licence, notes=UNMEASURED.format(threshold))
    given = Weights(
        network=network,
        path=weights,
        tags=read_tag_list(tags_file),
        origin=origin,
        data=unmeasured_data(trained_on, licence),
        variant=variant,
        thresholds=threshold,
    )
    synonyms = load_synonyms(same_tags) if same_tags is not None else None
    clip = PAPER_CLIP if settings is None else settings.data.clip.format
    version = import_weights(given, out or Path("imported", network), clip)
    click.echo(version)
    if settings is not None:
        from rich.console import Console

        from pipeline.console.logs import show_progress
        from pipeline.runs.local_runner import attempt, evaluate_version

        show_progress(Console(stderr=True))
        click.echo(
            attempt(
                settings,
                lambda run_id: evaluate_version(
                    settings,
                    version,
                    run_id=run_id,
                    synonyms=synonyms,
                    on_shared=lambda shared: click.echo(str(shared)),
                ),
            )
        )
