"""Training of a network: the loop that networks and combiners share, and the Trainer's run_fn for a network.

The heads' losses (binary cross entropy for tags: Bengani et al. 2019, 'Implementation') and Adam; after every epoch the
macro ROC-AUC on the validation split decides what is kept and when to stop. The state is saved whole after every epoch,
so a killed training goes on at its last one and ends with the same weights as one that was left alone.

A network that hears less than a clip learns from random windows of it and is scored as what it is outside: the mean
over windows. Trained weights may be started from; while the rest of the network is frozen, what it says of each window
is computed once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.augmentation import StoredLogMel, augmented
from components.embeddings import Embeddings, embed, frozen_weights, kept
from components.labels import read_settings
from components.metrics import score_tags
from components.optimisation import first_optimiser, next_stage, plateau_rate
from components.reader import (
    Fold,
    MakeDataset,
    RandomWindows,
    TransformFacts,
    log_mel_dataset,
    transform_facts,
    waveform_dataset,
)
from components.starting_weights import started_network
from components.training_settings import Augmentation, FitSettings, Monitor, Precision, TrainingSettings
from models.front_ends.level import RmsLevel
from models.heads import Heads
from models.hearing import Hearing
from models.outputs import LOGITS, HeadsLoss, set_initial_bias, with_heads
from models.precision import in_float32
from models.registry import NETWORKS, Network, find_network
from models.spec_augment import SpecAugment
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import BadInputError
from preprocessing.whole_files import write_whole
from preprocessing.windows import NEARLY_ALL
from serving.graph.ensemble import Member
from serving.model_info import MemberInfo, Normalisation

log = logging.getLogger(__name__)

KERAS_FOLDER = "Format-Keras"
MODEL_FILE = "model.keras"
MEMBER_FILE = "member.json"
OUT_OF_FOLD_FILE = "out_of_fold.npz"
HISTORY_FILE = "history.json"


@dataclass
class TrainingState:
    """What is known after an epoch; saved beside the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_figure: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def choose_precision(precision: Precision, network: str) -> str:
    """Return Keras' dtype policy for a network on the devices that there are.

    On a GPU bfloat16 from compute capability 8.0 on (Ampere), float16 from 7.0 on (Volta, the paper's V100). On a CPU
    what benchmarks/networks.py found faster: bfloat16 where the CPU multiplies in it (AMX or AVX-512).
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if _multiplies_bfloat16() and network in NETWORKS else "float32"


def _multiplies_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = file.read()
        return "amx_bf16" in flags or "avx512_bf16" in flags
    except OSError:
        return False


def distribution() -> tf.distribute.Strategy:
    """Mirror over the GPUs where there is more than one; the default device otherwise."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


Validate = Callable[[keras.Model], Callable[[], "SplitPredictions"]]
"""Makes, once for a network, what asks it about the validation split after each epoch."""


def fit(
    build: Callable[[], keras.Model],
    train: MakeDataset,
    validate: Validate,
    settings: FitSettings,
    heads: Heads,
    checkpoint_dir: str,
    log_dir: str | None = None,
    name: str = "network",
    epoch_level: int = logging.WARNING,
    initial_bias: bool = True,
) -> tuple[keras.Model, TrainingState]:
    """Train a network until its figure on the validation split stops rising.

    Args:
        build: makes the network to begin with, inside the distribution's scope: a batch's ``inputs`` -> probabilities.
        train: the training split's batches, in a new order each epoch.
        validate: see Validate.
        settings: how.
        heads: what it answers.
        checkpoint_dir: where the state is kept after each epoch; a state found there is gone on from.
        log_dir: for TensorBoard.
        name: for the log.
        epoch_level: level of the epochs' lines in the log.
        initial_bias: start from the tags' frequencies.

    Returns:
        The network with the weights of its best epoch, and the history.

    Raises:
        ValueError: the loss is not finite.
    """
    steps, frequencies = _survey(train)
    with distribution().scope():
        keras.utils.set_random_seed(settings.seed)
        model, state = _restore(checkpoint_dir)
        if model is None:
            model = build()
            if initial_bias:
                set_initial_bias(core_of(model), heads, frequencies)
            loss = HeadsLoss(heads, frequencies, settings.class_balance, settings.label_smoothing)
            _compile(model, first_optimiser(settings, model, steps), loss)
    ask = validate(model)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else None
    patience = settings.epochs if settings.never_stops_early else settings.patience
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < patience:
        _begin_epoch(model, settings, state, checkpoint_dir)
        batches = train(settings.seed * 10_007 + state.epoch).map(lambda batch: (batch["inputs"], batch["labels"]))
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        began = time.perf_counter()
        losses = model.fit(batches, epochs=1, verbose=0).history["loss"]
        if not math.isfinite(losses[-1]):
            raise ValueError(f"{name}: the loss is {losses[-1]} in epoch {state.epoch + 1}; lower the learning rate")
        with _averaged_weights(model):
            split = ask()
            state.epoch += 1
            figures = {"epoch": state.epoch, "loss": losses[-1], **_figures(split, heads)}
            figures["seconds"] = time.perf_counter() - began
            state.history.append(figures)
        better = _note_figure(state, _figure(figures, settings.monitor))
        log.log(epoch_level, "%s epoch %d/%d: %s", name, state.epoch, settings.epochs, _line(figures))
        if writer:
            with writer.as_default():
                for key in ("loss", "valid_roc_auc", "valid_pr_auc"):
                    tf.summary.scalar(f"epoch_{key}", figures[key], step=state.epoch)
            writer.flush()
        _save(checkpoint_dir, model, state, better)
    best = keras.models.load_model(os.path.join(checkpoint_dir, _best_file(state)), compile=False)
    return best, state


def _compile(model: keras.Model, optimiser: keras.optimizers.Optimizer, loss: keras.losses.Loss) -> None:
    """Compile; the loss is scaled where layers compute in float16, as Keras does by itself for whole models alone."""
    in_float16 = any(layer.compute_dtype == "float16" for layer in core_of(model).layers)
    model.compile(
        optimizer=keras.optimizers.LossScaleOptimizer(optimiser) if in_float16 else optimiser,
        loss=loss,
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )


def _begin_epoch(model: keras.Model, settings: FitSettings, state: TrainingState, checkpoint_dir: str) -> None:
    """Set what an epoch begins with: random numbers, learning rate, and the stage of the timetable."""
    _seed_dropout(model, settings.seed, state.epoch)
    rate = plateau_rate(settings, [_figure(figures, settings.monitor) for figures in state.history])
    change = next_stage(settings, state.epoch)
    if change is not None and state.best_epoch:
        best = keras.models.load_model(os.path.join(checkpoint_dir, _best_file(state)), compile=False)
        model.set_weights(best.get_weights())
    if isinstance(change, keras.optimizers.Optimizer):
        _compile(model, change, model.loss)
    elif change is not None or rate is not None:
        _plain(model.optimizer).learning_rate = rate if change is None else change


def _plain(optimiser: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimiser itself where it scales another's loss."""
    return getattr(optimiser, "inner_optimizer", optimiser)


@contextlib.contextmanager
def _averaged_weights(model: keras.Model) -> Iterator[None]:
    """Let a model have the averages of its weights meanwhile, where its optimiser keeps them."""
    optimiser = _plain(model.optimizer)
    if not optimiser.use_ema:
        yield
        return
    last = [variable.numpy() for variable in model.trainable_variables]
    optimiser.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, last, strict=True):
        variable.assign(value)


def _figures(split: SplitPredictions, heads: Heads) -> dict[str, float]:
    """What the validation split says of a network."""
    scores = score_tags(split.labels, split.predictions, [str(tag) for tag in range(split.labels.shape[1])])
    loss = float(HeadsLoss(heads)(split.labels, split.predictions))
    return {"valid_roc_auc": scores.roc_auc, "valid_pr_auc": scores.pr_auc, "valid_loss": loss}


def _figure(figures: Mapping[str, float], monitor: Monitor) -> float:
    """The figure to go by, the larger the better."""
    return -figures["valid_loss"] if monitor == "loss" else figures[f"valid_{monitor}"]


def _note_figure(state: TrainingState, figure: float) -> bool:
    """Say whether an epoch is the best; where no tag has both classes there is no figure, and the last one counts."""
    better = math.isnan(figure) or figure > state.best_figure
    if better:
        state.best_epoch, state.best_figure = state.epoch, figure
    return better


def core_of(model: keras.Model) -> keras.Model:
    """Return the network itself where ``model`` has its front before it (models.hearing.Hearing.from_window)."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[-1] if inner and all(layer.name != LOGITS for layer in model.layers) else model


@dataclass(frozen=True)
class SplitPredictions:
    """A network's answers for a split, in the order of the clips' ids.

    Attributes:
        clip_ids: sorted.
        labels: float32 [clips, tags].
        predictions: float32 [clips, tags].
    """

    clip_ids: tuple[bytes, ...]
    labels: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.float32]


def inference(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the network as a compiled function that is traced once, for any batch size.

    It takes float [batch, ...] of any precision, as the network's input is, and gives float32 [batch, tags].
    """
    inputs = model.inputs[0]
    signature = tf.TensorSpec([None, *inputs.shape[1:]], tf.float32)
    answer = tf.function(lambda batch: model(batch, training=False), input_signature=[signature])
    return lambda batch: answer(tf.cast(batch, tf.float32))


def predict(step: Callable[[tf.Tensor], tf.Tensor], dataset: MakeDataset) -> SplitPredictions:
    """Run a network, given as its ``inference`` function, over a split."""
    parts = [
        (batch["clip_id"].numpy(), batch["labels"].numpy(), step(batch["inputs"]).numpy()) for batch in dataset(None)
    ]
    ids, labels, predictions = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(ids)
    return SplitPredictions(tuple(ids[order]), labels[order], predictions[order])


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Give each epoch its own random numbers: Keras does not keep the generators' state in a saved model."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign(np.array([seed * 1009 + number, epoch], dtype="uint32"))


def _line(figures: Mapping[str, float]) -> str:
    return "loss {loss:.4f}, valid ROC-AUC {valid_roc_auc:.4f}, PR-AUC {valid_pr_auc:.4f}".format(**figures)


def _survey(dataset: MakeDataset) -> tuple[int, npt.NDArray[np.float64]]:
    """Number of batches, and how frequent each tag is."""
    steps, clips, positives = 0, 0, np.float64(0.0)
    for batch in dataset(None):
        labels = batch["labels"].numpy()
        steps, clips, positives = steps + 1, clips + len(labels), positives + labels.sum(axis=0, dtype=np.float64)
    return steps, np.asarray(positives / clips)


_STATE = "state.json"


def _last_file(state: TrainingState) -> str:
    return f"epoch-{state.epoch:04d}.keras"


def _best_file(state: TrainingState) -> str:
    return f"best-{state.best_epoch:04d}.keras"


def _restore(checkpoint_dir: str) -> tuple[keras.Model | None, TrainingState]:
    try:
        with open(os.path.join(checkpoint_dir, _STATE), encoding="utf-8") as file:
            state = TrainingState(**json.load(file))
        model = keras.models.load_model(os.path.join(checkpoint_dir, _last_file(state)))
    except FileNotFoundError:
        return None, TrainingState()
    log.warning("training goes on after epoch %d, found in %s", state.epoch, checkpoint_dir)
    return model, state


def _save(checkpoint_dir: str, model: keras.Model, state: TrainingState, better: bool) -> None:
    """Save network, optimiser and state; state.json, replaced last, decides which files count."""
    os.makedirs(checkpoint_dir, exist_ok=True)
    last, best = (os.path.join(checkpoint_dir, name) for name in (_last_file(state), _best_file(state)))
    model.save(last)
    if better and _plain(model.optimizer).use_ema:
        with _averaged_weights(model):
            model.save(best)
    elif better:
        shutil.copyfile(last, best)
    write_whole(os.path.join(checkpoint_dir, _STATE), json.dumps(asdict(state)))
    for old in os.listdir(checkpoint_dir):
        if old.endswith(".keras") and old not in (_last_file(state), _best_file(state)):
            os.remove(os.path.join(checkpoint_dir, old))


def checkpoint_key(*parts: Any) -> str:
    """Name of a training's checkpoint folder: the same settings on the same data find it again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Task:
    """One network to be trained, on one data set.

    Attributes:
        name: as the configuration calls it.
        network: which.
        settings: how.
        clip: what the examples hold.
        facts: what Transform learnt.
        normalisation: of what the network reads; None where it takes it as it is.
    """

    name: str
    network: Network
    settings: TrainingSettings
    clip: ClipFormat
    facts: TransformFacts
    normalisation: Normalisation | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], transform_graph: str, train: list[str]) -> Task:
        """Read a Trainer's ``custom_config``.

        Args:
            config: see run_fn.
            transform_graph: Transform's.
            train: patterns of the training split's examples; a normalisation that Transform did not learn is learnt
                from them.

        Raises:
            BadInputError: there is no such network, or it hears more than a clip.
            ValueError: the training split has fewer tags than are asked for.
        """
        facts = transform_facts(transform_graph, read_settings(config["heads"]))
        network, settings = find_network(config["network"]), TrainingSettings(**config["settings"])
        task = cls(config["name"], network, settings, ClipFormat(**config["clip"]), facts)
        return replace(task, normalisation=task._learn_normalisation(train))

    def _learn_normalisation(self, train: list[str]) -> Normalisation | None:
        """Mean and deviation over all values of what the network reads; of the first training clips where it is not
        what is stored."""
        stored, as_is = self.network.reads_stored_log_mel, self.settings.level == "as_is"
        if not self.network.normalised or (as_is and (stored or self.network.front_end is None)):
            return self.facts.normalisation(self.network)
        if stored:
            return self.facts.levelled_log_mel
        front, hearing = self.hearing.front(), self.hearing
        clips = self.clip_dataset(train)(None).take(NORMALISATION_CLIPS // SCORING_BATCH)
        sums = np.zeros(3)
        for batch in clips:
            values = np.asarray(front(hearing.cut(batch["inputs"])), np.float64)
            sums += values.size, values.sum(), np.square(values).sum()
        mean = sums[1] / sums[0]
        return Normalisation(float(mean), float(np.sqrt(max(sums[2] / sums[0] - mean**2, 1e-12))))

    @property
    def heads(self) -> Heads:
        """What it answers."""
        return self.facts.heads

    @property
    def hearing(self) -> Hearing:
        """What it hears of a clip where it is scored."""
        settings = self.settings
        return Hearing.of(self.network, self.clip, settings.window_rule(self.network), settings.level)

    @property
    def windowed(self) -> bool:
        """Whether it hears so little of a clip that it is trained on random windows, however many score a clip."""
        return self.hearing.window < NEARLY_ALL * self.clip.samples

    @property
    def reads_stored_log_mel(self) -> bool:
        """Whether its training clips are the stored log-mel."""
        return reads_stored_log_mel(self.network, self.settings)

    @property
    def precision(self) -> str:
        """Keras' dtype policy."""
        return choose_precision(self.settings.precision, self.network.name)

    def build(self) -> keras.Model:
        """Build it untrained: what it reads, normalised -> probabilities."""
        network = self.network.build(self.heads.size, dtype=self.precision, seed=self.settings.seed)
        return with_heads(network, self.heads)

    def prepared(self, network: keras.Model) -> keras.Model:
        """Set what the settings say of a network's own layers."""
        for layer in network._flatten_layers():
            if isinstance(layer, keras.layers.Dropout) and self.settings.dropout is not None:
                layer.rate = self.settings.dropout
            if isinstance(layer, keras.layers.BatchNormalization) and self.settings.freeze_batch_norm:
                layer.trainable = False
        return network

    def with_front(self, network: keras.Model) -> keras.Model:
        """Return what computes probabilities from a training batch's inputs."""
        masks = self._masks()
        if self.reads_stored_log_mel:
            if masks is None:
                return network
            inputs = keras.Input(network.input.shape[1:], name="masked", dtype="float32")
            return keras.Model(inputs, network(masks(inputs)), name=f"{network.name}_masked")
        learnt = self.normalisation
        scale = None if learnt is None else (1 / learnt.std, -learnt.mean / learnt.std)
        return replace(self.hearing, level="as_is").from_window(network, scale, masks)  # the batches are at the level

    def _masks(self) -> SpecAugment | None:
        settings = self.settings
        if not (settings.frequency_mask or settings.time_mask):
            return None
        return SpecAugment(settings.frequency_mask, settings.time_mask, seed=settings.seed, dtype="float32")

    def training_dataset(self, patterns: list[str], fold: Fold | None = None) -> MakeDataset:
        """Return what makes the training split's batches, in random windows where it hears those: at one level where it
        hears that, then augmented.

        Without a seed it gives the clips as they are, for counting.

        Args:
            patterns: of Transform's examples for a network that reads the stored log-mel, of the raw ones otherwise.
            fold: part of the clips.

        Raises:
            ValueError: when it is called, that no file matches.
        """
        settings = self.settings
        random = RandomWindows(self.hearing.window, settings.train_windows) if self.windowed else None
        augmentation = settings.model_copy(update={"time_shift": settings.time_shift and not self.windowed})
        size, clip = settings.batch_size, self.clip

        def make(seed: int | None) -> tf.data.Dataset:
            if self.reads_stored_log_mel:
                batches = self._stored_log_mel(patterns, size, seed, fold)
                stored = StoredLogMel(self._of_stored, clip.sample_rate)
                return batches if seed is None else augmented(batches, augmentation, seed, clip, stored)
            windows = None if seed is None else random
            batches = waveform_dataset(patterns, self.facts.tags, size, seed, clip=clip, windows=windows, fold=fold)
            if self.settings.level == "rms":
                batches = batches.map(_at_level, tf.data.AUTOTUNE, deterministic=True)
            batches = batches if seed is None else augmented(batches, augmentation, seed, clip)
            return batches if self.windowed else batches.map(self._one_window, tf.data.AUTOTUNE, deterministic=True)

        return make

    @property
    def _of_stored(self) -> Normalisation:
        """Of the stored log-mel as this network reads it."""
        return self.facts.log_mel if self.settings.level == "as_is" else self.facts.levelled_log_mel

    def _stored_log_mel(self, patterns: list[str], size: int, seed: int | None, fold: Fold | None) -> tf.data.Dataset:
        to_level = None if self.settings.level == "as_is" else (self.facts.log_mel, self.facts.levelled_log_mel)
        return log_mel_dataset(patterns, self.heads.size, size, seed, clip=self.clip, fold=fold, to_level=to_level)

    def _one_window(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Cut a batch of clips to what the network hears at once."""
        return {**batch, "inputs": self.hearing.cut(batch["inputs"])}

    def clip_dataset(self, patterns: list[str], fold: Fold | None = None) -> MakeDataset:
        """Return what makes a split's whole clips, for scoring; arguments as of ``training_dataset``."""
        size, clip = SCORING_BATCH, self.clip
        if self.reads_stored_log_mel:
            return lambda seed: self._stored_log_mel(patterns, size, seed, fold)
        return lambda seed: waveform_dataset(patterns, self.facts.tags, size, seed, clip=clip, fold=fold)

    def clip_answer(self, network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function from what ``clip_dataset`` gives to probabilities: the mean over a clip's windows."""
        network = core_of(network)
        if self.reads_stored_log_mel:
            return inference(network)
        member, hearing, front = self.member(network), self.hearing, self.hearing.front()
        return self._of_clips(lambda waveform: hearing.mean_over_windows(member.answer(front(hearing.cut(waveform)))))

    def clip_embedding(self, network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function from what ``clip_dataset`` gives to what the last layer reads, [clips, windows, ...]."""
        member = self.member(network)
        if self.reads_stored_log_mel:
            embedding = inference(member.embedding)
            return lambda batch: embedding(batch)[:, tf.newaxis]
        hearing, front = self.hearing, self.hearing.front()

        def embed(waveform: tf.Tensor) -> tf.Tensor:
            vectors = member.embedding(member.normalise(front(hearing.cut(waveform))), training=False)
            return tf.reshape(vectors, [tf.shape(waveform)[0], hearing.windows, *vectors.shape[1:]])

        return self._of_clips(embed)

    def _of_clips(self, function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        spec = tf.TensorSpec([None, self.clip.samples], tf.float32)
        traced: Callable[[tf.Tensor], tf.Tensor] = tf.function(function, input_signature=[spec], autograph=False)
        return traced

    def member(self, network: keras.Model, trained_on: str | None = None) -> Member:
        """Return the network as a part of what is served."""
        rule = self.settings.window_rule(self.network)
        return Member(self.name, self.network, network, rule, self.normalisation, trained_on, self.settings.level)


def reads_stored_log_mel(network: Network, settings: Augmentation) -> bool:
    """Whether a network is trained on the stored log-mel: it reads no other, and nothing needs the waveform."""
    return network.reads_stored_log_mel and not settings.needs_waveform


def _at_level(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Bring a batch of clips or windows to one level."""
    return {**batch, "inputs": RmsLevel()(batch["inputs"])}


SCORING_BATCH = 8
"""Clips that are scored at a time: of each there may be many windows."""

NORMALISATION_CLIPS = 256
"""From so many training clips a normalisation is learnt that Transform does not know."""


def run_fn(fn_args: Any) -> None:
    """Train one network: TFX Trainer's user function.

    Args:
        fn_args: TFX's FnArgs; ``custom_config`` holds ``name``, ``network``, ``settings`` (TrainingSettings),
            ``heads``, ``clip``, ``folds`` (0, or how many further networks are trained to predict the clips that each
            did not see), ``checkpoints`` (folder) and ``code``. The files are Transform's for a network that reads the
            stored log-mel, the raw examples for any other.

    Raises:
        ValueError: a split has no files, the training split lacks tags, or the loss is not finite.
        BadInputError: the trained weights to start from cannot be had or do not fit.
    """
    config = fn_args.custom_config
    train, valid = list(fn_args.train_files), list(fn_args.eval_files)
    task = Task.from_config(config, fn_args.transform_graph_path, train)
    log.warning("%s: training in %s on %s", task.name, task.precision, _devices())
    parts = (
        task.name,
        config["network"],
        task.settings.model_dump(mode="json"),
        task.precision,
        config["code"],
        config["heads"],
    )
    key = checkpoint_key(*parts, train, fn_args.transform_graph_path)
    checkpoint_dir = os.path.join(config["checkpoints"], f"{task.name}-{key}")
    network, state, trained_on = _train(task, train, valid, checkpoint_dir, fn_args.model_run_dir)
    network = in_float32(network)
    model_uri = os.path.dirname(fn_args.serving_model_dir)
    save_network(task.member(network, trained_on), model_uri)
    if config.get("folds"):
        _write_out_of_fold(task, train, valid, config["folds"], checkpoint_dir, model_uri)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints the signature whatever it is told
        network.export(fn_args.serving_model_dir, verbose=False)
    history = {"name": task.name, "network": task.network.name, "precision": task.precision, **asdict(state)}
    write_history(fn_args.model_run_dir, {**history, "weights": task.settings.weights})
    shutil.rmtree(checkpoint_dir, ignore_errors=True)


def _train(
    task: Task,
    train: list[str],
    valid: list[str],
    checkpoint_dir: str,
    log_dir: str | None = None,
    fold: Fold | None = None,
) -> tuple[keras.Model, TrainingState, str | None]:
    """Train one network, from trained weights where the settings say so.

    Returns:
        What the network reads, normalised -> probabilities; its history; what its weights were first trained on.
    """
    settings, trained_on, initial = task.settings, None, None
    task.network.register_layers()  # for a training that goes on, which builds nothing
    if settings.weights is not None:
        initial, trained_on = started_network(
            settings.weights, task.network, task.heads, task.facts.tags, task.precision
        )
        if settings.train != "all":
            epochs = settings.epochs if settings.train == "head" else settings.train
            initial, state = train_head(task, initial, train, valid, epochs, f"{checkpoint_dir}-head", fold)
            if settings.train == "head":
                return initial, state, trained_on

    def validate(model: keras.Model) -> Callable[[], SplitPredictions]:
        answer, held = task.clip_answer(model), task.clip_dataset(valid)
        return lambda: predict(answer, held)

    model, state = fit(
        lambda: task.with_front(task.prepared(task.build() if initial is None else initial)),
        task.training_dataset(train, fold),
        validate,
        settings,
        task.heads,
        checkpoint_dir,
        log_dir,
        task.name,
        initial_bias=initial is None,
    )
    return core_of(model), state, trained_on


def train_head(
    task: Task,
    network: keras.Model,
    train: list[str],
    valid: list[str],
    epochs: int,
    checkpoint_dir: str,
    fold: Fold | None = None,
) -> tuple[keras.Model, TrainingState]:
    """Train a network's last layer; what the rest of it says of each window is computed once.

    Args:
        task: which network, on what.
        network: what it reads, normalised -> probabilities.
        train: patterns of the training split's examples.
        valid: of the validation split's.
        epochs: at most.
        checkpoint_dir: where the state is kept.
        fold: part of the training clips.

    Returns:
        The network with its new last layer, and the history.
    """
    learnt, held = (_embeddings(task, network, split, checkpoint_dir) for split in (train, valid))
    learnt = learnt.of(fold)
    windows = learnt.vectors.shape[1]
    inputs, labels = learnt.by_window(), np.tile(learnt.labels, (windows, 1))

    def dataset(seed: int | None) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices({"inputs": inputs, "labels": labels})
        rows = rows if seed is None else rows.shuffle(len(inputs), seed=seed)
        return rows.batch(task.settings.batch_size)

    def validate(head: keras.Model) -> Callable[[], SplitPredictions]:
        held_inputs = held.by_window()

        def ask() -> SplitPredictions:
            by_window = head.predict(held_inputs, batch_size=256, verbose=0)
            mean = np.mean(np.split(by_window, windows), axis=0)
            return SplitPredictions(tuple(held.clip_ids.tolist()), held.labels, mean)

        return ask

    head, state = fit(
        lambda: _head_alone(network, task.settings.seed),
        dataset,
        validate,
        task.settings.model_copy(update={"epochs": epochs}),
        task.heads,
        checkpoint_dir,
        name=f"{task.name} head",
    )
    network.get_layer(LOGITS).set_weights(head.get_layer(LOGITS).get_weights())
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    return network, state


def _embeddings(task: Task, network: keras.Model, patterns: list[str], checkpoint_dir: str) -> Embeddings:
    """What a network's last layer reads of a split's whole clips, kept beside the checkpoints."""
    network = in_float32(network)
    heard = (asdict(task.hearing), task.normalisation, task.facts.tags)
    key = checkpoint_key(task.network.name, frozen_weights(network), *heard, patterns)
    step, dataset = task.clip_embedding(network), task.clip_dataset(patterns)
    return kept(os.path.dirname(checkpoint_dir), key, lambda: embed(step, dataset))


def _head_alone(network: keras.Model, seed: int) -> keras.Model:
    """What a network's last layer reads -> probabilities: new layers of the same kinds, with dropout before them."""
    logits = network.get_layer(LOGITS)
    embedding = keras.Input(logits.input.shape[1:], name="embedding", dtype="float32")
    x = keras.layers.Dropout(HEAD_DROPOUT, seed=seed, name="head_dropout")(embedding)
    for layer in network.layers[network.layers.index(logits) :]:
        x = layer.__class__.from_config(layer.get_config())(x)
    return keras.Model(embedding, x, name="head")


HEAD_DROPOUT = 0.5
"""Before a head that is trained alone: as musicnn, S-CNN and nearly all others have it before their last layer."""


def _write_out_of_fold(
    task: Task, train: list[str], valid: list[str], folds: int, checkpoint_dir: str, model_uri: str
) -> None:
    """Keep what networks trained on the other folds say of each training clip.

    Raises:
        BadInputError: a fold has no track.
    """
    for number in range(folds):
        if not any(True for _ in task.clip_dataset(train, Fold(number, folds, inside=True))(None).take(1)):
            raise BadInputError(
                f"fit: out_of_fold: fold {number + 1} of {folds} has no track of the training split. "
                "Give fewer combiner.folds, more tracks, or fit: valid"
            )
    parts = []
    for number in range(folds):
        folder = f"{checkpoint_dir}-fold{number}"
        network, _, _ = _train(task, train, valid, folder, fold=Fold(number, folds, inside=False))
        held = task.clip_dataset(train, Fold(number, folds, inside=True))
        parts.append(predict(task.clip_answer(in_float32(network)), held))
        shutil.rmtree(folder, ignore_errors=True)
    ids = np.concatenate([np.array(part.clip_ids) for part in parts])
    predictions = np.concatenate([part.predictions for part in parts])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, clip_ids=ids, predictions=predictions)
    write_whole(os.path.join(model_uri, KERAS_FOLDER, OUT_OF_FOLD_FILE), buffer.getvalue())


def read_out_of_fold(model_uri: str) -> dict[bytes, npt.NDArray[np.float32]]:
    """Read what a Trainer kept: clip_id -> probabilities, float32 [outputs]."""
    with np.load(os.path.join(model_uri, KERAS_FOLDER, OUT_OF_FOLD_FILE)) as arrays:
        return dict(zip(arrays["clip_ids"].tolist(), arrays["predictions"], strict=True))


def _devices() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    return f"{len(gpus)} GPU" if gpus else f"{os.cpu_count()} CPU cores"


def save_network(member: Member, model_uri: str) -> None:
    """Keep the Keras network beside TFX's serving format, for the combiner."""
    folder = os.path.join(model_uri, KERAS_FOLDER)
    os.makedirs(folder, exist_ok=True)
    member.model.save(os.path.join(folder, MODEL_FILE))
    write_whole(os.path.join(folder, MEMBER_FILE), json.dumps(asdict(member.info)))


def load_network(model_uri: str) -> Member:
    """Load what save_network kept."""
    folder = os.path.join(model_uri, KERAS_FOLDER)
    with open(os.path.join(folder, MEMBER_FILE), encoding="utf-8") as file:
        info = MemberInfo.from_json(json.load(file))
    network = find_network(info.network)
    network.register_layers()
    model = keras.models.load_model(os.path.join(folder, MODEL_FILE), compile=False)
    return Member(info.name, network, model, info.windows, info.normalisation, info.trained_on, info.level)


def write_history(folder: str, history: Mapping[str, Any]) -> None:
    """Write the training curves where the report finds them."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, HISTORY_FILE), "w", encoding="utf-8") as file:
        json.dump(history, file, indent=1)
