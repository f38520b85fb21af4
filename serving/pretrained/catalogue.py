"""Trained models of others, by name: what they were trained on, what they reach, where they come from. Plain data.

Figures are those of their publishers and never of different splits in one column: MTAT ``clean`` has 4,332 test clips,
``folder`` 5,329 (with the 997 that carry none of the 50 tags; PR-AUC is .06 lower there for the same network).

What nobody published is which probability counts as heard. ``THRESHOLD`` stands for all tags then, and the card of the
model says that it was not measured: on the published predictions of a MusicNN for MTAT's clean test split (macro
ROC-AUC 0.9109) 0.2 gives a macro F1 of 0.445, where the best value for all tags gives 0.449 and 0.5 gives 0.228 and no
tag at all to three clips of ten (no command here makes these figures). An F1 is largest near half of its own value
(Lipton et al. 2014, arXiv 1402.1892).

``tags/*.txt`` are the names of the outputs in their order, facts about those weights: musicnn's order of MTAT's 50
tags, Last.fm's 50 most frequent tags on the Million Song Dataset, MTG-Jamendo's alphabetical lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.errors import BadInputError

THRESHOLD: Final = 0.2
"""For every tag where nothing is known."""

DEFAULT: Final = "musicnn-mtt"
"""Whom `autotag tag` asks on a machine where no model was trained."""

RAW_CONTENT: Final = "https://raw.githubusercontent.com"

TAGS_FOLDER: Final = Path(__file__).with_name("tags")

MTAT_LICENCE: Final = "CC BY-NC-SA 3.0 (MagnaTagATune): non-commercial"
MSD_LICENCE: Final = "audio previews by 7digital, tags by Last.fm users: research"
JAMENDO_LICENCE: Final = "CC BY-NC-SA 4.0 (MTG-Jamendo's metadata): non-commercial"


@dataclass(frozen=True)
class PackageFile:
    """A wheel of the package index.

    Attributes:
        package: its name there.
        version: exactly.
        name: the file's.
        size: bytes.
        digest: ``sha256:HEX``.
    """

    package: str
    version: str
    name: str
    size: int
    digest: str

    @property
    def place(self) -> str:
        """Where it comes from, for a person."""
        return f"the package index ({self.package}=={self.version})"


@dataclass(frozen=True)
class GitFile:
    """A file of a public repository on GitHub.

    Attributes:
        repository: ``owner/name``.
        commit: at which it is there.
        path: in the repository.
        digest: ``git:HEX``, its blob id.
        size: bytes; None where it is not known.
    """

    repository: str
    commit: str
    path: str
    digest: str
    size: int | None

    @property
    def name(self) -> str:
        """The file's own."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Its raw content."""
        return f"{RAW_CONTENT}/{self.repository}/{self.commit}/{self.path}"

    @property
    def place(self) -> str:
        """Where it comes from, for a person."""
        return f"github.com/{self.repository}"


Remote = PackageFile | GitFile


@dataclass(frozen=True)
class TrainedModel:
    """Trained weights that can be fetched.

    Attributes:
        name: by which commands and configurations call it.
        network: whose weights they are, in models.registry.
        trained_on: the data set.
        tag_list: file of ``tags/`` with its outputs' names.
        split: which clips the figures are of.
        roc_auc: macro mean over the tags, as published; None where it is not.
        pr_auc: likewise, average precision.
        parameters: that are trained.
        licence: of the weights.
        data_licence: of the data, which weights made from it carry.
        source: paper and code.
        files: what is fetched; the first one holds the weights.
        variant: which of several sets of weights in that file.
        tried: fetched, converted and held against published answers by those who wrote this list.
        notes: what a user has to know.
    """

    name: str
    network: str
    trained_on: str
    tag_list: str
    split: str
    roc_auc: float | None
    pr_auc: float | None
    parameters: int
    licence: str
    data_licence: str
    source: str
    files: tuple[Remote, ...]
    variant: str = ""
    tried: bool = True
    notes: str = ""

    @property
    def size(self) -> int | None:
        """Bytes to be fetched; None where they are not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def place(self) -> str:
        """Where it comes from, for a person."""
        return self.files[0].place

    def tags(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return read_tag_list(TAGS_FOLDER / f"{self.tag_list}.txt")


def read_tag_list(path: Path) -> tuple[str, ...]:
    """Read tags, one a line.

    Raises:
        BadInputError: it cannot be read, or holds none or one twice.
    """
    try:
        tags = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"the list of tags {path} cannot be read: {error}") from error
    if not tags or len(set(tags)) < len(tags):
        twice = sorted({tag for tag in tags if tags.count(tag) > 1})
        raise BadInputError(f"{path}: expected tags, one a line, each once; {f'twice: {twice}' if twice else 'none'}")
    return tags


CATALOGUE: Final[dict[str, TrainedModel]] = {}
"""By name, in the order in which they are listed."""


def find_trained(name: str) -> TrainedModel:
    """Return a trained model.

    Raises:
        BadInputError: none has that name.
    """
    if name not in CATALOGUE:
        raise BadInputError(f"no trained model is called {name!r}; `autotag pretrained` lists them")
    return CATALOGUE[name]


def _add(*models: TrainedModel) -> None:
    for model in models:
        CATALOGUE[model.name] = model


_WHEEL: Final = PackageFile(
    "musicnn",
    "0.1.0",
    "musicnn-0.1.0-py3-none-any.whl",
    29_292_476,
    "sha256:f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
)
_PONS: Final = "Pons and Serra (2019), arXiv 1909.06654; jordipons/musicnn"


def _of_the_wheel(
    name: str, network: str, variant: str, split: str, roc_auc: float, pr_auc: float, parameters: int, notes: str = ""
) -> TrainedModel:
    mtat = variant.startswith("MTT")
    return TrainedModel(
        name=name,
        network=network,
        trained_on="MTAT" if mtat else "MSD",
        tag_list="mtat_50" if mtat else "msd_50",
        split=split,
        roc_auc=roc_auc,
        pr_auc=pr_auc,
        parameters=parameters,
        licence="ISC",
        data_licence=MTAT_LICENCE if mtat else MSD_LICENCE,
        source=_PONS,
        files=(_WHEEL,),
        variant=variant,
        notes=notes,
    )


_add(
    _of_the_wheel("musicnn-mtt", "musicnn", "MTT_musicnn", "folder", 0.9067, 0.3831, 787_159),
    _of_the_wheel("musicnn-msd", "musicnn", "MSD_musicnn", "28,435 clips", 0.8802, 0.2891, 787_159),
    _of_the_wheel("vgg-mtt", "vgg", "MTT_vgg", "folder", 0.9030, 0.3823, 605_748),
    _of_the_wheel(
        "vgg-msd",
        "vgg_msd",
        "MSD_vgg",
        "28,435 clips",
        0.8768,
        0.2819,
        605_748,
        "built with the pools of its graph file; the package's own code builds others and answers wrongly",
    ),
)

_WON: Final = "Won, Ferraro, Bogdanov and Serra (2020), arXiv 2006.00751"
_WON_REPOSITORY: Final = "ethman/sota-music-tagging-models"
_WON_COMMIT: Final = "2969b12498d9c8efa749d99c3ba7a36487b02d21"
_WON_DATA: Final = {
    "mtat": ("MTAT", "mtat_50", "clean", MTAT_LICENCE),
    "msd": ("MSD", "msd_50", "28,435 clips", MSD_LICENCE),
    "jamendo": ("MTG-Jamendo", "jamendo_50", "split-0", JAMENDO_LICENCE),
}


@dataclass(frozen=True)
class _Comparison:
    """Weights of the 2020 comparison: folder there, network here, trained parameters; figures and files by data set."""

    folder: str
    network: str
    parameters: int
    figures: dict[str, tuple[float, float]]
    blobs: dict[str, tuple[str, int | None]]


_COMPARISON: Final = (
    _Comparison(
        "fcn",
        "fcn",
        447_732,
        {"mtat": (0.9005, 0.4295), "msd": (0.8744, 0.2970), "jamendo": (0.8255, 0.2801)},
        {
            "mtat": ("970d99eb564935d36e2f4b71712a250a081229e0", 1_902_811),
            "msd": ("10e77ca885b1f0f771274baaf2b1867a72a08083", 1_902_815),
            "jamendo": ("d236c42b7757a5d7fd28535ec6a620ed78049901", 1_902_815),
        },
    ),
    _Comparison(
        "crnn",
        "crnn",
        394_100,
        {"mtat": (0.8722, 0.3625), "msd": (0.8499, 0.2469), "jamendo": (0.7978, 0.2358)},
        {
            "mtat": ("884e1ffa3b4d005794b225996163d1ef5d64206b", 1_687_630),
            "msd": ("5e4334531c3e630521d329c68a39ab374d61418c", 1_687_711),
            "jamendo": ("20045ae7f5bf5882c95512f786555a51f5223d96", 1_687_626),
        },
    ),
    _Comparison(
        "musicnn",
        "musicnn_2020",
        784_300,
        {"mtat": (0.9106, 0.4493), "jamendo": (0.8226, 0.2713)},
        {
            "mtat": ("f535468c253f5d9a6e87c4088d234846d7738cc2", 3_257_172),
            "jamendo": ("61fc3de978b34df788d267ba8a0c2f06d783df9a", 3_257_168),
        },
    ),
    _Comparison(
        "musicnn",
        "musicnn_2020_msd",
        7_972_000,
        {"msd": (0.8803, 0.2983)},
        {"msd": ("f456be06bd7409125daae533a4d966292dbfa1bf", None)},
    ),
    _Comparison(
        "sample",
        "sample_cnn",
        1_869_874,
        {"mtat": (0.9058, 0.4422), "msd": (0.8789, 0.2959), "jamendo": (0.8208, 0.2742)},
        {
            "mtat": ("0ce2469da86fddc73be75936fbcddc9471e7ce21", None),
            "msd": ("3888125187cd62bff2ec7f6763b474b916407d95", None),
            "jamendo": ("db5bedf34a0ea6500d95e254a43a203a185cec06", None),
        },
    ),
    _Comparison(
        "se",
        "sample_cnn_se",
        6_951_858,
        {"mtat": (0.9103, 0.4520), "msd": (0.8838, 0.3109), "jamendo": (0.8233, 0.2784)},
        {
            "mtat": ("5f20d799b05a88ebbc2140f75c663283d556e3de", None),
            "msd": ("7d5eca8d6a5d47631126042c3d40d7dcf6a9a451", None),
            "jamendo": ("a4b55509c3af0558c02723322f3aab5122ae8d14", None),
        },
    ),
    _Comparison(
        "short_res",
        "short_chunk_res",
        12_104_244,
        {"msd": (0.8898, 0.3280), "jamendo": (0.8316, 0.2951)},
        {
            "msd": ("2566ed85f37150ac6f3dba4f5a39985b5acbf156", None),
            "jamendo": ("56478ab59e0891a0ef4188e997db536d35d3407a", None),
        },
    ),
    _Comparison(
        "attention",
        "self_attention",
        10_521_652,
        {"mtat": (0.9077, 0.4445), "msd": (0.8810, 0.3103), "jamendo": (0.8261, 0.2883)},
        {
            "mtat": ("c348c8840a1d7b81011674032ee2393332521f19", None),
            "msd": ("ff2c49e9b88d2abcaa877eda951170ef81a5e904", None),
            "jamendo": ("45106362fe825f6eaf95a7d7459d15ce7b0313da", None),
        },
    ),
    _Comparison(
        "hcnn",
        "harmonic_cnn",
        3_631_551,
        {"mtat": (0.9127, 0.4611), "msd": (0.8898, 0.3298), "jamendo": (0.8322, 0.2956)},
        {
            "mtat": ("68960600c842af8256600bfe917bf91582721564", None),
            "msd": ("8b6c53c41ce3fd5c61cd0aa2f5444435972f8e53", None),
            "jamendo": ("2890f9f118cc4fd906caac57fd2b56abe7a34706", None),
        },
    ),
)


def _of_the_comparison(one: _Comparison, data: str) -> TrainedModel:
    blob, size = one.blobs[data]
    trained_on, tag_list, split, data_licence = _WON_DATA[data]
    roc_auc, pr_auc = one.figures[data]
    path = f"sota_music_taggers/models/{data}/{one.folder}/best_model.pth"
    return TrainedModel(
        name=f"{one.network.removesuffix(f'_{data}')}-{data}",
        network=one.network,
        trained_on=trained_on,
        tag_list=tag_list,
        split=split,
        roc_auc=roc_auc,
        pr_auc=pr_auc,
        parameters=one.parameters,
        licence="MIT",
        data_licence=data_licence,
        source=f"{_WON}; minzwon/sota-music-tagging-models",
        files=(GitFile(_WON_REPOSITORY, _WON_COMMIT, path, f"git:{blob}", size),),
        tried=size is not None,
        notes="" if size is not None else "its file could not be had where this list was written",
    )


for _one in _COMPARISON:
    _add(*(_of_the_comparison(_one, _data) for _data in _one.blobs))

_CHOI_REPOSITORY: Final = ("keunwoochoi/music-auto_tagging-keras", "a3e105d0c4c529c512cc197ad8770ff1cc52aa32")
_LIU_REPOSITORY: Final = ("ciaua/clip2frame", "ddbacb3d0f9c92de153029928a97c7b62028cb18")
_LIU_STANDARDISERS: Final = {
    512: ("146160fa5f68b1758adec58710b1dea0dd6b032e", "e81418e129d73444f0b0334c0f10b305dab639a1"),
    1024: ("182ff3f4cdf5117905f75a803f719674c7721918", "d3855c34c17fea5bfbd9c618023d558339c0fc0a"),
    2048: ("726be3262ecb625a9b9fce14711dae3b8c837a68", "0089920a30bd96ae36aacf38997ba20b515c61cb"),
    4096: ("f1aa28b7c57ae5ac9e082ed21825fa3b3fe06747", "7bff9ce73d5c0ce80aebffa78c5369becfa70abf"),
    8192: ("7ba01c76091b6e172bfe97fcb727d33f46b2169e", "ebc312921544085c3cd3fc53ba422216a61ea7e4"),
    16384: ("d3ddad079224565a646eedcfca5aa0d241178495", "00c698647c14e6bf4167a11ad9b680d51f2e60b5"),
}
"""Window -> blob ids of mean and deviation of its bands."""

_add(
    TrainedModel(
        name="crnn_2017-msd",
        network="crnn_2017",
        trained_on="MSD",
        tag_list="msd_50",
        split="28,540 clips",
        roc_auc=0.8662,
        pr_auc=None,
        parameters=396_786,
        licence="MIT",
        data_licence=MSD_LICENCE,
        source="Choi, Fazekas, Sandler and Cho (2017), arXiv 1609.04243; keunwoochoi/music-auto_tagging-keras",
        files=(
            GitFile(
                *_CHOI_REPOSITORY,
                "data/music_tagger_crnn_weights_tensorflow.h5",
                "git:9faa83fc15365f38ef27d0b411dc29b1da78bf0a",
                1_649_464,
            ),
        ),
    ),
    TrainedModel(
        name="liu_yang-mtat",
        network="liu_yang",
        trained_on="MTAT",
        tag_list="mtat_188",
        split="",
        roc_auc=None,
        pr_auc=None,
        parameters=704_060,
        licence="ISC",
        data_licence=MTAT_LICENCE,
        source="Liu and Yang (2016), Event localization in music auto-tagging; ciaua/clip2frame",
        files=(
            GitFile(
                *_LIU_REPOSITORY,
                "data/models/model.20160309_111546.npz",
                "git:31fa46d07ca7aac47d5673cd09960a0b906087a8",
                2_822_498,
            ),
            *(
                GitFile(
                    *_LIU_REPOSITORY,
                    f"data/standardizers/logmelspec10000.16000_{n_fft}_512_128.0/{what}.npy",
                    f"git:{blob}",
                    1_104,
                )
                for n_fft, blobs in _LIU_STANDARDISERS.items()
                for what, blob in zip(("mean", "std"), blobs, strict=True)
            ),
        ),
        notes="188 tags; for which of them the paper's 0.896 was measured is not known",
    ),
)
