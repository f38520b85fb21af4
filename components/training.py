"""Training of a network: the loop that branches and combiners share, and the Trainer's run_fn for a branch.

Binary cross entropy and Adam (Bengani et al. 2019, 'Implementation'); after every epoch the macro ROC-AUC on the
validation split decides what is kept and when to stop. The state is saved whole after every epoch, so a killed training
goes on at its last one and ends with the same weights as one that was left alone.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.metrics import score_tags
from components.reader import Augmentation, augmented, log_mel_dataset, transform_facts, waveform_dataset
from models.branches import BRANCHES, Branch
from models.heads import Heads
from models.outputs import set_initial_bias
from models.precision import in_float32
from preprocessing.whole_files import write_whole

log = logging.getLogger(__name__)

KERAS_FOLDER = "Format-Keras"
MODEL_FILE = "model.keras"
HISTORY_FILE = "history.json"

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
MakeDataset = Callable[[int | None], tf.data.Dataset]
"""Makes a split's batches, dicts of ``inputs``, ``labels`` and ``clip_id`` (components.reader); takes the seed of the
order, or None for the files' order."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        epochs: at most.
        batch_size: clips in a step, over all devices.
        learning_rate: Adam's, at the start.
        schedule: ``constant``, or ``cosine`` down to a hundredth over all epochs.
        patience: stop after this many epochs without a better validation ROC-AUC.
        seed: of weights, order and dropout.
        precision: Keras' dtype policy, or ``auto`` for what suits device and branch.
        time_shift: augmentation of a branch's training clips, see components.reader.Augmentation.
        gain_db: likewise.
    """

    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    patience: int = 5
    seed: int = 0
    precision: Precision = "auto"
    time_shift: bool = False
    gain_db: float = 0.0


@dataclass
class TrainingState:
    """What is known after an epoch; saved beside the checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_roc_auc: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def choose_precision(precision: Precision, branch: str) -> str:
    """Return Keras' dtype policy for a branch on the devices that there are.

    On a GPU bfloat16 from compute capability 8.0 on (Ampere), float16 from 7.0 on (Volta, the paper's V100). On a CPU
    what benchmarks/networks.py found faster: bfloat16 where the CPU multiplies in it (AMX or AVX-512).
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if _multiplies_bfloat16() and branch in BRANCHES else "float32"


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


def fit(
    build: Callable[[], keras.Model],
    train: MakeDataset,
    valid: MakeDataset,
    settings: TrainingSettings,
    checkpoint_dir: str,
    log_dir: str | None = None,
    name: str = "network",
    epoch_level: int = logging.WARNING,
) -> tuple[keras.Model, TrainingState]:
    """Train a network until its validation ROC-AUC stops rising.

    Args:
        build: makes the untrained network, inside the distribution's scope.
        train: the training split's batches, in a new order each epoch.
        valid: the validation split's batches.
        settings: how.
        checkpoint_dir: where the state is kept after each epoch; a state found there is gone on from.
        log_dir: for TensorBoard.
        name: for the log.
        epoch_level: level of the epochs' lines in the log.

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
            set_initial_bias(model, Heads.of_tags(len(frequencies)), frequencies)
            model.compile(
                optimizer=_optimizer(model, _learning_rate(settings, steps)),
                loss=keras.losses.BinaryCrossentropy(),
                jit_compile=bool(tf.config.list_physical_devices("GPU")),
            )
    step = inference(model)
    writer = tf.summary.create_file_writer(log_dir) if log_dir else None
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        _seed_dropout(model, settings.seed, state.epoch)
        batches = train(settings.seed * 10_007 + state.epoch).map(lambda batch: (batch["inputs"], batch["labels"]))
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        losses = model.fit(batches, epochs=1, verbose=0).history["loss"]
        if not math.isfinite(losses[-1]):
            raise ValueError(f"{name}: the loss is {losses[-1]} in epoch {state.epoch + 1}; lower the learning rate")
        split = predict(step, valid)
        scores = score_tags(split.labels, split.predictions, [str(tag) for tag in range(split.labels.shape[1])])
        state.epoch += 1
        figures = {
            "epoch": state.epoch,
            "loss": losses[-1],
            "valid_roc_auc": scores.roc_auc,
            "valid_pr_auc": scores.pr_auc,
        }
        state.history.append(figures)
        log.log(epoch_level, "%s epoch %d/%d: %s", name, state.epoch, settings.epochs, _line(figures))
        if writer:
            with writer.as_default():
                for key in ("loss", "valid_roc_auc", "valid_pr_auc"):
                    tf.summary.scalar(f"epoch_{key}", figures[key], step=state.epoch)
            writer.flush()
        # Where no tag has both classes there is no ROC-AUC to go by, and the last epoch counts.
        better = math.isnan(scores.roc_auc) or scores.roc_auc > state.best_roc_auc
        if better:
            state.best_epoch, state.best_roc_auc = state.epoch, scores.roc_auc
        _save(checkpoint_dir, model, state, better)
    best = keras.models.load_model(os.path.join(checkpoint_dir, _best_file(state)), compile=False)
    return best, state


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
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed * 1009 + number, epoch], dtype="uint32"))


def _line(figures: Mapping[str, float]) -> str:
    return "loss {loss:.4f}, valid ROC-AUC {valid_roc_auc:.4f}, PR-AUC {valid_pr_auc:.4f}".format(**figures)


def _survey(dataset: MakeDataset) -> tuple[int, npt.NDArray[np.float64]]:
    """Number of batches, and how frequent each tag is."""
    steps, clips, positives = 0, 0, np.float64(0.0)
    for batch in dataset(None):
        labels = batch["labels"].numpy()
        steps, clips, positives = steps + 1, clips + len(labels), positives + labels.sum(axis=0, dtype=np.float64)
    return steps, np.asarray(positives / clips)


def _learning_rate(settings: TrainingSettings, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if settings.schedule == "constant":
        return settings.learning_rate
    return keras.optimizers.schedules.CosineDecay(settings.learning_rate, max(1, steps * settings.epochs), alpha=0.01)


def _optimizer(
    model: keras.Model, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Adam; its loss scaled where layers compute in float16, which Keras does by itself for a whole model alone."""
    adam = keras.optimizers.Adam(learning_rate)
    in_float16 = any(layer.compute_dtype == "float16" for layer in model.layers)
    return keras.optimizers.LossScaleOptimizer(adam) if in_float16 else adam


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
    model.save(os.path.join(checkpoint_dir, _last_file(state)))
    if better:
        shutil.copyfile(
            os.path.join(checkpoint_dir, _last_file(state)), os.path.join(checkpoint_dir, _best_file(state))
        )
    write_whole(os.path.join(checkpoint_dir, _STATE), json.dumps(asdict(state)))
    for old in os.listdir(checkpoint_dir):
        if old.endswith(".keras") and old not in (_last_file(state), _best_file(state)):
            os.remove(os.path.join(checkpoint_dir, old))


def checkpoint_key(*parts: Any) -> str:
    """Name of a training's checkpoint folder: the same settings on the same data find it again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def branch_dataset(
    branch: Branch,
    patterns: list[str],
    transform_graph: str,
    batch_size: int,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 frozen
) -> MakeDataset:
    """Return what makes a split's batches for a branch: from Transform's output or from the raw examples.

    Augmented only where a seed of the order is given, which is in training.

    Raises:
        ValueError: the vocabulary is smaller than the labels are wide; when it is called, that no file matches.
    """
    facts = transform_facts(transform_graph)

    def make(seed: int | None) -> tf.data.Dataset:
        if branch.input == "log_mel":
            batches = log_mel_dataset(patterns, len(facts.tags), batch_size, seed)
        else:
            batches = waveform_dataset(patterns, facts, batch_size, seed)
        return batches if seed is None else augmented(batches, augmentation, facts.normalisation, seed)

    return make


def run_fn(fn_args: Any) -> None:
    """Train one branch: TFX Trainer's user function.

    Args:
        fn_args: TFX's FnArgs; ``custom_config`` holds ``branch``, ``settings`` (TrainingSettings), ``n_tags``,
            ``checkpoints`` (folder) and ``code``.

    Raises:
        ValueError: a split has no files, the vocabulary is smaller than the labels are wide, or the loss is not finite.
    """
    config = fn_args.custom_config
    branch, settings = BRANCHES[config["branch"]], TrainingSettings(**config["settings"])
    n_tags, graph = config["n_tags"], fn_args.transform_graph_path
    policy = choose_precision(settings.precision, branch.name)
    log.warning("%s: training in %s on %s", branch.name, policy, _devices())
    train, valid = (
        branch_dataset(
            branch, list(files), graph, settings.batch_size, Augmentation(settings.time_shift, settings.gain_db)
        )
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    key = checkpoint_key(branch.name, asdict(settings), policy, config["code"], fn_args.train_files, graph)
    checkpoint_dir = os.path.join(config["checkpoints"], f"{branch.name}-{key}")
    model, state = fit(
        lambda: branch.build(n_tags, dtype=policy, seed=settings.seed),
        train,
        valid,
        settings,
        checkpoint_dir,
        fn_args.model_run_dir,
        branch.name,
    )
    model = in_float32(model)
    save_network(model, os.path.dirname(fn_args.serving_model_dir))
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints the signature whatever it is told
        model.export(fn_args.serving_model_dir, verbose=False)
    write_history(fn_args.model_run_dir, {"name": branch.name, "precision": policy, **asdict(state)})
    shutil.rmtree(checkpoint_dir)


def _devices() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    return f"{len(gpus)} GPU" if gpus else f"{os.cpu_count()} CPU cores"


def save_network(model: keras.Model, model_uri: str) -> None:
    """Keep the Keras network beside TFX's serving format, for the combiner."""
    folder = os.path.join(model_uri, KERAS_FOLDER)
    os.makedirs(folder, exist_ok=True)
    model.save(os.path.join(folder, MODEL_FILE))


def load_network(model_uri: str) -> keras.Model:
    """Load what save_network kept."""
    return keras.models.load_model(os.path.join(model_uri, KERAS_FOLDER, MODEL_FILE), compile=False)


def write_history(folder: str, history: Mapping[str, Any]) -> None:
    """Write the training curves where the report finds them."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, HISTORY_FILE), "w", encoding="utf-8") as file:
        json.dump(history, file, indent=1)
