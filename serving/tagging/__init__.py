"""Names what is heard in audio files of any format and length, with a model in this process or behind a server::

    from serving.tagging import Tagger

    tagger = Tagger("musicnn-mtt")
    print(tagger.tag_file("song.mp3").top(5))

More of it: docs/how-to/python.md.
"""

from serving.tagging.sources import LocalModel
from serving.tagging.tagged_files import FailedFile, Selection, TaggedFile
from serving.tagging.tagger import Tagger

__all__ = ["FailedFile", "LocalModel", "Selection", "TaggedFile", "Tagger"]
