"""Every network by name: what it hears, what builds it, and what is published of it. Imports no Keras.

A network is one file in ``models/`` and one entry here; configuration, training, export, reports, benchmarks and tests
read the entry and keep no list of their own.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from models.front_ends.settings import STORED_LOG_MEL, FrontEnd, LogMel, Mfcc, Stack, Stft
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.windows import NEARLY_ALL, WindowRule

if TYPE_CHECKING:
    import keras


class BuildNetwork(Protocol):
    """Makes an untrained network: (batch, *input shape) -> logits (batch, n_outputs) float32.

    The layer whose bias is added last is called ``logits``; what follows it has no weights.
    """

    def __call__(self, n_outputs: int = 50, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
        """Build with a Keras dtype policy and a seed for the initial weights."""


@dataclass(frozen=True)
class Published:
    """A figure that somebody published. Figures of different ``split`` never stand in one column.

    Attributes:
        data: set that it was trained and measured on: "MTAT", "MSD", "Jamendo top 50".
        split: which clips: "clean" (4,332 test clips), "folder" (5,329), "paper" (shuffled 13:1:2) ...
        roc_auc: macro mean over tags, 0 to 1; None where it was not given.
        pr_auc: likewise, average precision.
        source: where it stands.
    """

    data: str
    split: str
    roc_auc: float | None
    pr_auc: float | None
    source: str


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        name: by which configurations and models refer to it.
        title: for people.
        source: paper, table, public code.
        builder: ``module:function``, a BuildNetwork; imported when it is first built.
        parameters: weights at ``outputs`` outputs, batch norm's averages included.
        window_samples: that it hears at once, at ``sample_rate``.
        sample_rate: Hz; data of another rate is resampled in the graph.
        front_end: from waveform to its input; None where it reads the waveform.
        outputs: at which ``parameters`` was counted.
        published_parameters: as its source states or its published weights count; None where nothing is known.
        published: figures.
        normalised: its input is shifted and scaled by mean and deviation of the training split.
        score_windows: the windows of a clip over which its answers are averaged, unless a configuration says other.
        arguments: further keyword arguments of the builder, where several networks share a file.
        notes: what its source leaves open and what was chosen.
    """

    name: str
    title: str
    source: str
    builder: str
    parameters: int
    window_samples: int = PAPER_CLIP.samples
    sample_rate: int = PAPER_CLIP.sample_rate
    front_end: FrontEnd | None = None
    outputs: int = 50
    published_parameters: int | None = None
    published: tuple[Published, ...] = ()
    normalised: bool = False
    score_windows: WindowRule = WindowRule()  # noqa: RUF009 frozen
    arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    def build(self, n_outputs: int | None = None, *, dtype: str | None = None, seed: int = 0) -> keras.Model:
        """Build it untrained: see BuildNetwork."""
        module, _, function = self.builder.partition(":")
        build: BuildNetwork = functools.partial(getattr(importlib.import_module(module), function), **self.arguments)
        return build(n_outputs or self.outputs, dtype=dtype, seed=seed)

    def register_layers(self) -> None:
        """Make the layers and functions of its file known to Keras, which finds those of a saved network by name."""
        importlib.import_module(self.module)

    @property
    def module(self) -> str:
        """Dotted name of its file."""
        return self.builder.partition(":")[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what it reads of one window, without the batch."""
        return (self.window_samples,) if self.front_end is None else self.front_end.shape(self.window_samples)

    @property
    def window_seconds(self) -> float:
        """Length of what it hears at once."""
        return self.window_samples / self.sample_rate

    @property
    def reads_stored_log_mel(self) -> bool:
        """Whether the log-mel in a clip's example is its training input."""
        return self.front_end is not None and self.front_end.fingerprint == STORED_LOG_MEL.fingerprint

    def window_in(self, clip: ClipFormat) -> int:
        """Samples of a clip, at the clip's rate, that make one window.

        A window may be longer than the clip by as little as WindowRule takes for nothing; zeros follow the clip then.

        Raises:
            BadInputError: the clip is shorter than the window by more.
        """
        samples = -(-self.window_samples * clip.sample_rate // self.sample_rate)
        if clip.samples < NEARLY_ALL * samples:
            raise BadInputError(
                f"{self.name} hears {self.window_seconds:.2f} s at once, and the data's clips have {clip.seconds:.2f} s"
            )
        return samples


NETWORKS: Final[dict[str, Network]] = {}
"""By name, in the order in which they are listed."""


def register(network: Network) -> Network:
    """Make a network known under its name; one of that name that was there is replaced."""
    NETWORKS[network.name] = network
    return network


def find_network(name: str) -> Network:
    """Return a network.

    Raises:
        BadInputError: none has that name.
    """
    if name not in NETWORKS:
        raise BadInputError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]


_BENGANI = "Bengani, Vadivel and Jothi (2019), Efficient Music Auto-Tagging with Convolutional Neural Networks"


def _bengani(roc_auc: float) -> tuple[Published, ...]:
    return (Published("MTAT", "paper", roc_auc, None, f"{_BENGANI}, Table 5"),)


for _network in (
    Network(
        name="mel_1d",
        title="Model 1: 1D convolutions on log-mel",
        source=_BENGANI,
        builder="models.mel_1d:build_mel_1d",
        parameters=2_153_138,
        front_end=STORED_LOG_MEL,
        published=_bengani(0.857),
        normalised=True,
    ),
    Network(
        name="mel_2d",
        title="Model 2: 2D convolutions on log-mel",
        source=_BENGANI,
        builder="models.mel_2d:build_mel_2d",
        parameters=2_124_466,
        front_end=STORED_LOG_MEL,
        published=_bengani(0.891),
        normalised=True,
    ),
    Network(
        name="waveform_1d",
        title="Model 3: 1D convolutions on the waveform",
        source=_BENGANI,
        builder="models.waveform_1d:build_waveform_1d",
        parameters=783_794,
        published=_bengani(0.783),
        normalised=True,
    ),
):
    register(_network)

_MUSICNN = "Pons and Serra (2019), musicnn: pre-trained convolutional neural networks for music audio tagging"
_MUSICNN_LOG_MEL = LogMel(
    sample_rate=16_000, n_fft=512, hop_length=256, pad="none", n_mels=96, fmax=8_000.0, scale="log10_1p"
)
_MUSICNN_HEARS = 512 + 186 * 256
_MUSICNN_WINDOWS = WindowRule(hop=187 * 256, lead=256)
"""The package's patches of 187 frames that do not overlap. Their spectrogram's first frame has the song's first sample
in its middle."""


def _musicnn_package(data: str, split: str, roc_auc: float, pr_auc: float) -> Published:
    return Published(data, split, roc_auc, pr_auc, "musicnn 0.1.0, experiment.result")


for _network in (
    Network(
        name="musicnn",
        title="MusiCNN: tall and long filters on 3 s of log-mel",
        source=f"{_MUSICNN}, arXiv 1909.06654",
        builder="models.musicnn:build_musicnn",
        parameters=792_079,
        published_parameters=787_159,
        window_samples=_MUSICNN_HEARS,
        sample_rate=16_000,
        front_end=_MUSICNN_LOG_MEL,
        published=(
            _musicnn_package("MTAT", "folder", 0.9067, 0.3831),
            _musicnn_package("MSD", "28,435 test clips", 0.8802, 0.2891),
        ),
        score_windows=_MUSICNN_WINDOWS,
        notes="The package rounds mel power to float16 before the logarithm, which overflows under NumPy 2; not here.",
    ),
    Network(
        name="vgg",
        title="VGG of 3 x 3 convolutions on 3 s of log-mel",
        source=f"{_MUSICNN}, arXiv 1909.06654",
        builder="models.vgg:build_vgg",
        parameters=607_030,
        published_parameters=605_748,
        window_samples=_MUSICNN_HEARS,
        sample_rate=16_000,
        front_end=_MUSICNN_LOG_MEL,
        published=(_musicnn_package("MTAT", "folder", 0.9030, 0.3823),),
        score_windows=_MUSICNN_WINDOWS,
    ),
    Network(
        name="vgg_msd",
        title="VGG with the pools of its weights for the Million Song Dataset",
        source=f"{_MUSICNN}, arXiv 1909.06654; pools from the graph file of MSD_vgg",
        builder="models.vgg:build_vgg",
        parameters=607_030,
        published_parameters=605_748,
        window_samples=_MUSICNN_HEARS,
        sample_rate=16_000,
        front_end=_MUSICNN_LOG_MEL,
        published=(_musicnn_package("MSD", "28,435 test clips", 0.8768, 0.2819),),
        score_windows=_MUSICNN_WINDOWS,
        arguments={"pools": "msd", "name": "vgg_msd"},
        notes="The package's own code builds MTT_vgg's pools for these weights and is then up to 0.26 off.",
    ),
):
    register(_network)

_CHOI_2016 = "Choi, Fazekas and Sandler (2016), Automatic tagging using deep convolutional neural networks"
_CHOI_HEARS = 349_440
"""Samples at 12 kHz: 29.12 s, which give 1,366 frames. A clip of 29.1 s is followed by 20 ms of zeros."""


def _choi_log_mel(exponent: float = 1.0) -> LogMel:
    return LogMel(
        sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, fmax=6_000.0, top_db=80.0, exponent=exponent
    )


def _fcn_2016(
    name: str,
    title: str,
    parameters: int,
    *published: Published,
    published_parameters: int | None = None,
    front_end: FrontEnd | None = None,
    notes: str = "",
) -> Network:
    return Network(
        name=name,
        title=title,
        source=f"{_CHOI_2016}, arXiv 1606.00298",
        builder="models.fcn_2016:build_fcn_2016",
        parameters=parameters,
        window_samples=_CHOI_HEARS,
        sample_rate=12_000,
        front_end=front_end or _choi_log_mel(),
        published_parameters=published_parameters,
        published=published,
        normalised=True,
        arguments={"name": name},
        notes=notes or "Input standardised, dropout 0.5 after each pool: the sources do not say.",
    )


def _choi_mtat(roc_auc: float) -> Published:
    return Published("MTAT", "not stated", roc_auc, None, "slides of the talk at ISMIR 2016, p. 9")


def _choi_msd(roc_auc: float) -> Published:
    return Published(
        "MSD", "not stated", roc_auc, None, "slides of the talk at ISMIR 2016, p. 14: re-run, the paper's is withdrawn"
    )


for _network in (
    _fcn_2016(
        "fcn_3",
        "FCN-3 on 29 s of log-mel",
        10_144_050,
        _choi_mtat(0.852),
        _choi_msd(0.839),
        notes="Widths and pools are not published: 128, 512, 2,048; (3, 5), (4, 16), (8, 17).",
    ),
    _fcn_2016(
        "fcn_4",
        "FCN-4 on 29 s of log-mel",
        17_372_594,
        _choi_mtat(0.894),
        _choi_msd(0.852),
        published_parameters=17_365_938,
    ),
    _fcn_2016("fcn_5", "FCN-5 on 29 s of log-mel", 25_190_962, _choi_mtat(0.890), _choi_msd(0.855)),
    _fcn_2016(
        "fcn_6",
        "FCN-6 on 29 s of log-mel",
        27_242_034,
        notes="The sixth layer is 1 x 1, 1,024. The paper's figure is withdrawn by its author.",
    ),
    _fcn_2016(
        "fcn_7",
        "FCN-7 on 29 s of log-mel",
        28_295_730,
        notes="The last two layers are 1 x 1, 1,024. The paper's figure is withdrawn by its author.",
    ),
    _fcn_2016(
        "fcn_5_narrow",
        "FCN-5 of 32 to 256 channels on 29 s of log-mel",
        864_690,
        published_parameters=863_218,
        notes="Widths of the public narrow network (850,368 before the output), with the slides' ReLU.",
    ),
    _fcn_2016(
        "fcn_4_stft",
        "FCN-4 on 29 s of STFT, 128 bins",
        17_372_594,
        _choi_mtat(0.846),
        front_end=Stft(sample_rate=12_000, n_fft=256, hop_length=256, scale="db", top_db=80.0, bands=128),
        notes="128 bins are published: frames of 256 samples, the highest of their 129 bins left out.",
    ),
    _fcn_2016(
        "fcn_4_mfcc",
        "FCN-4 on 29 s of MFCC with differences",
        17_372_594,
        _choi_mtat(0.862),
        front_end=Mfcc(
            sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, fmax=6_000.0, top_db=80.0, n_mfcc=30, deltas=2
        ),
        notes="The last pool is 3 bands high instead of 4, as 90 bands leave no more.",
    ),
    Network(
        name="crnn_2017",
        title="CRNN: four convolutions and two GRUs on 29 s of log-mel",
        source="Choi, Fazekas, Sandler and Cho (2017), Convolutional recurrent neural networks for music "
        "classification, arXiv 1609.04243; MusicTaggerCRNN of music-auto_tagging-keras",
        builder="models.crnn_2017:build_crnn_2017",
        parameters=400_562,
        window_samples=_CHOI_HEARS,
        sample_rate=12_000,
        front_end=_choi_log_mel(exponent=2.0),
        published_parameters=396_786,
        published=(Published("MSD", "Choi's, 28,540 test clips", 0.8662, None, "README of music-auto_tagging-keras"),),
        notes="The GRU of Keras 1: gates clip(0.2 x + 0.5), reset before the recurrent product.",
    ),
    Network(
        name="compact_cnn",
        title="Compact CNN on 29 s of log-mel",
        source="Choi (2017), compact_cnn of music-auto_tagging-keras",
        builder="models.compact_cnn:build_compact_cnn",
        parameters=39_602,
        window_samples=29 * 12_000,
        sample_rate=12_000,
        front_end=_choi_log_mel(),
        published_parameters=39_282,
        published=(Published("MSD", "not stated", 0.849, None, "README of its folder"),),
        notes="Ordinary batch norm; the source's takes each batch's own statistics, at inference too.",
    ),
    Network(
        name="liu_yang",
        title="Six window lengths of log-mel side by side, answers over time",
        source="Liu and Yang (2016), Event localization in music auto-tagging; clip2frame",
        builder="models.liu_yang:build_liu_yang",
        parameters=705_596,
        window_samples=465_600,
        sample_rate=16_000,
        front_end=Stack(
            sample_rate=16_000,
            parts=tuple(
                LogMel(sample_rate=16_000, n_fft=n_fft, hop_length=512, n_mels=128, fmax=8_000.0, scale="ln_1p")
                for n_fft in (512, 1024, 2048, 4096, 8192, 16384)
            ),
        ),
        outputs=188,
        published_parameters=704_060,
        notes="Without the Gaussian that smooths a tag's answers over time. The paper's 0.896 is for an unknown set of "
        "tags.",
    ),
):
    register(_network)

_WON_2020 = "Won, Ferraro, Bogdanov and Serra (2020), Evaluation of CNN-based automatic music tagging models"
_WON_TABLE = "the comparison's published table (figs/performance.png of sota-music-tagging-models)"


def _won_log_mel(bands: int) -> LogMel:
    return LogMel(
        sample_rate=16_000,
        n_fft=512,
        hop_length=256,
        pad="reflect",
        n_mels=bands,
        fmax=8_000.0,
        htk=True,
        area_norm=False,
    )


def _comparison_2020(
    name: str,
    title: str,
    of: str,
    *,
    parameters: int,
    trainable: int,
    window_samples: int,
    front_end: FrontEnd | None,
    mtat: tuple[float, float] | None = None,
    msd: tuple[float, float] | None = None,
    jamendo: tuple[float, float] | None = None,
    arguments: Mapping[str, Any] | None = None,
    module: str = "",
    notes: str = "",
) -> Network:
    """One network of the comparison; figures are (ROC-AUC, PR-AUC), macro means over the data set's 50 tags."""
    figures = (
        ("MTAT", "clean", mtat),
        ("MSD", "28,435 test clips", msd),
        ("Jamendo top 50", "split-0", jamendo),
    )
    module = module or name
    return Network(
        name=name,
        title=title,
        source=f"{of}; as in {_WON_2020}, arXiv 2006.00751",
        builder=f"models.{module}:build_{module}",
        parameters=parameters,
        published_parameters=trainable,
        window_samples=window_samples,
        sample_rate=16_000,
        front_end=front_end,
        published=tuple(Published(data, split, *figure, _WON_TABLE) for data, split, figure in figures if figure),
        arguments=arguments or {},
        notes=notes,
    )


for _network in (
    _comparison_2020(
        "fcn",
        "FCN: five convolutions on 29 s of log-mel",
        "Choi et al. (2016)",
        parameters=448_758,
        trainable=447_732,
        window_samples=464_000,
        front_end=_won_log_mel(96),
        mtat=(0.9005, 0.4295),
        msd=(0.8744, 0.2970),
        jamendo=(0.8255, 0.2801),
        notes="With 128 mel bands: MTAT .8994/.4236, MSD .8742/.2963, Jamendo .8245/.2792.",
    ),
    _comparison_2020(
        "crnn",
        "CRNN: four convolutions and two GRUs on 29 s of log-mel",
        "Choi et al. (2017)",
        parameters=394_998,
        trainable=394_100,
        window_samples=464_000,
        front_end=_won_log_mel(96),
        mtat=(0.8722, 0.3625),
        msd=(0.8499, 0.2469),
        jamendo=(0.7978, 0.2358),
        notes="With 128 mel bands: MTAT .8703/.3601, MSD .8460/.2330, Jamendo .7984/.2378.",
    ),
    _comparison_2020(
        "musicnn_2020",
        "Musicnn of the 2020 comparison on 3 s of log-mel",
        "Pons et al. (2018)",
        parameters=786_208,
        trainable=784_300,
        window_samples=48_000,
        front_end=_won_log_mel(96),
        mtat=(0.9106, 0.4493),
        jamendo=(0.8226, 0.2713),
        notes="Another network than the musicnn package's: batch norm before ReLU, mean over the bands before the long "
        "filters. With 128 mel bands: MTAT .9092/.4546, Jamendo .8275/.2810.",
    ),
    _comparison_2020(
        "musicnn_2020_msd",
        "Musicnn of the 2020 comparison, in the width that was trained on the Million Song Dataset",
        "Pons et al. (2018)",
        parameters=7_977_196,
        trainable=7_972_000,
        window_samples=48_000,
        front_end=_won_log_mel(96),
        msd=(0.8803, 0.2983),
        arguments={"middle": 512, "hidden": 500, "name": "musicnn_2020_msd"},
        module="musicnn_2020",
        notes="512 channels in the middle and 500 units before the output. With 128 mel bands: MSD .8788/.3036.",
    ),
    _comparison_2020(
        "sample_cnn",
        "SampleCNN: eleven convolutions on 3.7 s of waveform",
        "Lee et al. (2017)",
        parameters=1_875_762,
        trainable=1_869_874,
        window_samples=59_049,
        front_end=None,
        mtat=(0.9058, 0.4422),
        msd=(0.8789, 0.2959),
        jamendo=(0.8208, 0.2742),
    ),
    _comparison_2020(
        "sample_cnn_se",
        "SampleCNN with residual blocks, squeeze and excitation on 3.7 s of waveform",
        "Kim et al. (2018)",
        parameters=6_966_450,
        trainable=6_951_858,
        window_samples=59_049,
        front_end=None,
        mtat=(0.9103, 0.4520),
        msd=(0.8838, 0.3109),
        jamendo=(0.8233, 0.2784),
    ),
    _comparison_2020(
        "short_chunk",
        "Short-chunk CNN on 3.7 s of log-mel",
        "Won et al. (2020)",
        parameters=3_691_958,
        trainable=3_687_348,
        window_samples=59_049,
        front_end=_won_log_mel(128),
        mtat=(0.9126, 0.4590),
        msd=(0.8883, 0.3251),
        jamendo=(0.8324, 0.2976),
    ),
    _comparison_2020(
        "short_chunk_res",
        "Short-chunk CNN with residual blocks on 3.7 s of log-mel",
        "Won et al. (2020)",
        parameters=12_116_022,
        trainable=12_104_244,
        window_samples=59_049,
        front_end=_won_log_mel(128),
        mtat=(0.9129, 0.4614),
        msd=(0.8898, 0.3280),
        jamendo=(0.8316, 0.2951),
    ),
    _comparison_2020(
        "self_attention",
        "CNN and self-attention on 15 s of log-mel",
        "Won, Chun and Serra (2019)",
        parameters=10_530_870,
        trainable=10_521_652,
        window_samples=240_000,
        front_end=_won_log_mel(128),
        mtat=(0.9077, 0.4445),
        msd=(0.8810, 0.3103),
        jamendo=(0.8261, 0.2883),
        notes="No positional encoding; the token before the steps is fixed.",
    ),
    _comparison_2020(
        "harmonic_cnn",
        "CNN on learnt harmonic filters, 5 s",
        "Won, Chun, Nieto and Serra (2020)",
        parameters=3_636_427,
        trainable=3_631_551,
        window_samples=80_000,
        front_end=Stft(sample_rate=16_000, n_fft=512, hop_length=256, pad="reflect", scale="power"),
        mtat=(0.9127, 0.4611),
        msd=(0.8898, 0.3298),
        jamendo=(0.8322, 0.2956),
        notes="The trained count includes the filters' one quality factor.",
    ),
):
    register(_network)

_LEE_2017 = "Lee, Park, Kim and Nam (2017), Sample-level deep convolutional neural networks for music auto-tagging"
_KIM_2018 = "Kim, Lee and Nam (2018), Sample-level CNN architectures for music auto-tagging using raw waveforms"
_SAMPLE_LEVEL_HEARS = 59_049
"""3^10 samples at 22,050 Hz: 2.68 s."""
_SAMPLE_LEVEL_WINDOWS = WindowRule(hop=_SAMPLE_LEVEL_HEARS)
"""The ten segments of a clip of 29 s that do not overlap."""

for _network in (
    Network(
        name="sample_cnn_2017",
        title="SampleCNN as first published: eleven convolutions on 2.7 s of waveform",
        source=f"{_LEE_2017}, arXiv 1703.01789",
        builder="models.sample_cnn_2017:build_sample_cnn_2017",
        parameters=1_875_762,
        window_samples=_SAMPLE_LEVEL_HEARS,
        sample_rate=22_050,
        published_parameters=1_869_874,
        published=(Published("MTAT", "clean", 0.905, None, f"{_LEE_2017}, as later papers cite it"),),
        score_windows=_SAMPLE_LEVEL_WINDOWS,
        notes="Another network than the comparison's: 22,050 Hz, and no sample of padding before the first layer.",
    ),
    Network(
        name="rese_2_multi",
        title="ReSE-2-Multi: residual blocks with squeeze and excitation on 2.7 s of waveform",
        source=f"{_KIM_2018}, arXiv 1710.10451",
        builder="models.rese_2_multi:build_rese_2_multi",
        parameters=26_993_202,
        window_samples=_SAMPLE_LEVEL_HEARS,
        sample_rate=22_050,
        published_parameters=26_980_146,
        published=(Published("MTAT", "clean", 0.9113, None, "README of its public code"),),
        score_windows=_SAMPLE_LEVEL_WINDOWS,
    ),
):
    register(_network)

_DIELEMAN_2014 = "Dieleman and Schrauwen (2014), End-to-end learning for music audio"
_DIELEMAN_FIGURES = f"{_DIELEMAN_2014}, frames of 256 samples; as others cite it, the paper was not at hand"
_DIELEMAN_HEARS = 48_000
_DIELEMAN_WINDOWS = WindowRule(hop=_DIELEMAN_HEARS)
"""Windows of 3 s that do not overlap."""
_MUSICNN_TRAINING = "README of musicnn-training"

for _network in (
    Network(
        name="dieleman_mel",
        title="Two convolutions over time on 3 s of log-mel",
        source=_DIELEMAN_2014,
        builder="models.dieleman:build_dieleman_mel",
        parameters=74_974,
        window_samples=_DIELEMAN_HEARS,
        sample_rate=16_000,
        front_end=LogMel(
            sample_rate=16_000, n_fft=256, hop_length=256, pad="none", n_mels=128, fmax=8_000.0, scale="ln_1p"
        ),
        published=(Published("MTAT", "not stated", 0.8815, None, _DIELEMAN_FIGURES),),
        normalised=True,
        score_windows=_DIELEMAN_WINDOWS,
        notes="Mel power; input standardised: the source was not at hand. Of 129 bins, 128 mel bands leave the lowest "
        "ones empty.",
    ),
    Network(
        name="dieleman_mel_96",
        title="Two convolutions over time on 3 s of log-mel, with 96 bands and batch norm on the input",
        source=f"{_DIELEMAN_2014}; variant of musicnn-training",
        builder="models.dieleman:build_dieleman_mel",
        parameters=66_786,
        window_samples=_MUSICNN_HEARS,
        sample_rate=16_000,
        front_end=_MUSICNN_LOG_MEL,
        published_parameters=66_784,
        published=(Published("MTAT", "folder", 0.8861, 0.3413, _MUSICNN_TRAINING),),
        score_windows=_MUSICNN_WINDOWS,
        arguments={"bands": 96, "input_batch_norm": True, "name": "dieleman_mel_96"},
    ),
    Network(
        name="dieleman_raw",
        title="Two convolutions over time on 3 s of waveform",
        source=_DIELEMAN_2014,
        builder="models.dieleman:build_dieleman_raw",
        parameters=107_870,
        window_samples=_DIELEMAN_HEARS,
        sample_rate=16_000,
        published=(Published("MTAT", "not stated", 0.8487, None, _DIELEMAN_FIGURES),),
        score_windows=_DIELEMAN_WINDOWS,
        notes="128 filters with ReLU in the place of the spectrogram: the source was not at hand.",
    ),
    Network(
        name="multi_d",
        title="Multi-D: timbre filters of twelve shapes on 3 s of log-mel",
        source="Pons et al. (2017), Timbre analysis of music audio signals with convolutional neural networks, arXiv "
        "1703.06697; timbre of musicnn-training",
        builder="models.multi_d:build_multi_d",
        parameters=186_042,
        window_samples=_MUSICNN_HEARS,
        sample_rate=16_000,
        front_end=_MUSICNN_LOG_MEL,
        published_parameters=185_856,
        published=(
            Published("MTAT", "folder", 0.8928, 0.3538, _MUSICNN_TRAINING),
            Published("MTAT", "not stated", 0.893, None, "Pons et al. (2017)"),
        ),
        score_windows=_MUSICNN_WINDOWS,
    ),
):
    register(_network)

_MFCC_20 = Mfcc(
    sample_rate=16_000, n_fft=1_024, hop_length=512, n_mels=128, fmax=8_000.0, top_db=80.0, n_mfcc=20, deltas=0
)


def _mfcc_cnn(depth: str, title: str, parameters: int) -> Network:
    name = f"mfcc_cnn_{depth}"
    return Network(
        name=name,
        title=f"{title} on 29 s of MFCCs",
        source="Aleskeeva, Klironomou, Markou and Xenaki (2018), Development of a convolutional neural network for "
        "multi label auto tagging of music audio files",
        builder="models.mfcc_cnn:build_mfcc_cnn",
        parameters=parameters,
        sample_rate=16_000,
        front_end=_MFCC_20,
        normalised=True,
        arguments={"name": name},
        notes="Sizes and results stood in figures that are lost: 20 coefficients, 5 x 5, 32 to 128 channels.",
    )


for _network in (
    _mfcc_cnn("shallow", "Two convolutions without pools", 2_393_394),
    _mfcc_cnn("middle", "Two convolutions with pools", 2_352_434),
    _mfcc_cnn("deep", "Three convolutions with pools", 722_354),
    Network(
        name="genre_mood",
        title="Four convolutions of 2 x 2 on 3 s of log-mel, for a genre and a mood",
        source="Yu (Stanford), Music tagging with convolutional neural network",
        builder="models.genre_mood:build_genre_mood",
        parameters=2_004_731,
        window_samples=66_150,
        sample_rate=22_050,
        front_end=LogMel(
            sample_rate=22_050, n_fft=2_048, hop_length=512, n_mels=128, fmax=11_025.0, scale="db", top_db=80.0
        ),
        outputs=9,
        normalised=True,
        score_windows=WindowRule(hop=66_150),
        notes="For two one-of heads: 6 genres, 3 moods. Accuracy .844 and .80, on slices of songs that are in training "
        "too. Channels, mel bands and rate are not given: 16, 16, 32, 32; 128; 22,050 Hz.",
    ),
):
    register(_network)
