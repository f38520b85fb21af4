"""What ``autotag tag-map`` leaves in a folder: the picture, the places as a table, and TensorBoard's files."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasets.tag_groups import tag_group
from pipeline.tag_map.picture import own_pictures
from pipeline.tag_map.projector import write_projector
from pipeline.tag_map.vectors import TagVectors
from preprocessing.whole_files import write_whole
from serving.library.layout import Method, lay_out

PNG_FILE: Final = "tag-map.png"
SVG_FILE: Final = "tag-map.svg"
TABLE_FILE: Final = "tag-map.csv"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        paths: of the files.
        nameless: tags whose mark has no name in the picture, as there was no room.
    """

    paths: list[Path]
    nameless: list[str]


def write_map(vectors: TagVectors, method: Method, folder: Path) -> Written:
    """Write the map of tag vectors; the same bytes for the same vectors.

    Raises:
        OSError: a file cannot be written.
    """
    layout = lay_out(vectors.vectors, method)
    png, svg, nameless = own_pictures(vectors, layout)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("tag", "group", "x", "y"))
    for tag, (x, y) in zip(vectors.tags, layout.places, strict=True):
        rows.writerow((tag, tag_group(tag), f"{x:.6g}", f"{y:.6g}"))
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes | str] = {PNG_FILE: png, SVG_FILE: svg, TABLE_FILE: table.getvalue()}
    for name, data in files.items():
        write_whole(folder / name, data)
    return Written([*(folder / name for name in files), *write_projector(vectors, folder)], nameless)
