"""Files that TensorBoard's embedding projector opens: ``tensorboard --logdir FOLDER``.

The formats are those of tensorboard/plugins/projector: a configuration as protobuf text, vectors as numbers between
tabs without a first line, and what is known of each vector as a table between tabs with one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from datasets.tag_groups import tag_group
from pipeline.tag_map.vectors import TagVectors
from preprocessing.whole_files import write_whole

CONFIG_FILE: Final = "projector_config.pbtxt"
VECTORS_FILE: Final = "vectors.tsv"
METADATA_FILE: Final = "metadata.tsv"
CONFIG: Final = f"""embeddings {{
  tensor_name: "tags"
  tensor_path: "{VECTORS_FILE}"
  metadata_path: "{METADATA_FILE}"
}}
"""


def write_projector(vectors: TagVectors, folder: Path) -> list[Path]:
    """Write the projector's three files, the configuration last; returns their paths.

    Raises:
        OSError: one cannot be written.
    """
    rows = ["\t".join(f"{number:.7g}" for number in row) for row in vectors.vectors]
    labels = ["tag\tgroup", *(f"{' '.join(tag.split())}\t{tag_group(tag)}" for tag in vectors.tags)]
    files = {VECTORS_FILE: rows, METADATA_FILE: labels}
    for name, lines in files.items():
        write_whole(folder / name, "".join(f"{line}\n" for line in lines))
    write_whole(folder / CONFIG_FILE, CONFIG)
    return [folder / name for name in (*files, CONFIG_FILE)]
