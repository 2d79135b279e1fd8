"""``convcore train``: from images to a file with a trained network."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from convcore.cli import _network, _settings
from convcore.cli._files import expect_writable, try_to_write
from convcore.cli._parser import (
    Args,
    Verbs,
    add_data_options,
    add_threads_option,
    add_verb,
    integer,
    one_of,
    real,
    use_threads,
)
from convcore.cli._recipes import AUGMENT_PAD, DATA, MODELS, SCHEDULES, SGD_MOMENTUM, family
from convcore.cli._result import Document, Interrupted, Result, describe, facts
from convcore.cli._settings import PRECISIONS, Settings

if TYPE_CHECKING:
    from convcore.callbacks import Callback, TrainingCheckpoint
    from convcore.data import Dataset
    from convcore.engine import Model


def _defaults(model: str) -> str:
    kind = family(model)
    sgd = kind.optimizer == "sgd"
    lines = [f"defaults of {model}:"]
    for name, recipe in kind.recipes.items():
        line = (
            f"  {name:<14} --epochs {recipe.epochs} --batch-size {recipe.batch_size} "
            f"--lr {kind.sgd_lr if sgd else recipe.lr:g}"
        )
        if kind.schedule == "exponential":
            line += f" --lr-decay {recipe.lr_decay:g} --label-smoothing {recipe.label_smoothing:g}"
        lines.append(line + " --augment" * recipe.augment)
    lines.append(f"  --optimizer {kind.optimizer} --schedule {kind.schedule}")
    lines.append(
        f"  with --optimizer sgd: --lr {kind.sgd_lr:g} --momentum {SGD_MOMENTUM:g} "
        f"--weight-decay {kind.sgd_weight_decay:g}"
    )
    return "\n".join(lines)


_EPILOG = f"""\
The validation data that is measured after each epoch is the test split, and so is the data of the
final result; nothing but --patience depends on it. The losses of the epochs include the label
smoothing; the test loss does not.

Ctrl-C finishes the running step and ends the training. What is kept is the state after the last
complete epoch; --resume repeats the broken epoch from its beginning and comes to the same weights,
bit for bit, as a training without the break. The checkpoint is renewed after each epoch, so it
also survives a crash. At the end of the training its folder is removed, unless --checkpoint named
it.

The schedules of the learning rate: exponential, times --lr-decay from epoch to epoch; cosine, along
half a cosine down to 0; steps, a tenth after half of the epochs and again after three quarters.
After a --resume with other --epochs, cosine and steps go by the new number.

{_defaults("lenet5")}

{_defaults("resnet20")}

The full recipe of the paper of the residual networks, 64,000 steps, with an expected test accuracy
of 91 % on the original images:

  convcore train resnet20 --data cifar10 --epochs 164 --schedule steps

examples:
  convcore train lenet5
  convcore train lenet5 --data mnist --output mnist.safetensors
  convcore train lenet5 --optimizer sgd --lr 0.05 --epochs 30 --seed 1
  convcore train lenet5 --resume lenet5.ckpt
  convcore train resnet20 --data cifar10 --data-dir ~/cifar10
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "train", "train a network and save it", _EPILOG)
    parser.add_argument("model", metavar="MODEL", help=", ".join(MODELS))
    add_data_options(parser, DATA, default="digits, which come with the package")
    how = parser.add_argument_group("how to train (defaults below)")
    how.add_argument("--epochs", type=integer(1), metavar="N")
    how.add_argument("--batch-size", type=integer(1), metavar="N")
    how.add_argument("--optimizer", type=one_of(("adam", "adamw", "sgd")), help="adam, adamw, sgd")
    how.add_argument("--lr", type=real(0), help="learning rate of the first epoch")
    how.add_argument(
        "--schedule", type=one_of(SCHEDULES), help="of the learning rate: " + ", ".join(SCHEDULES)
    )
    how.add_argument(
        "--lr-decay",
        type=real(0, 1),
        metavar="F",
        help="factor of the rate from epoch to epoch (exponential schedule)",
    )
    how.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help=f"move the training images by up to {AUGMENT_PAD} pixels and mirror them, at random",
    )
    how.add_argument(
        "--label-smoothing",
        type=real(0, 1),
        metavar="S",
        help="share of the target that is spread over all classes",
    )
    how.add_argument("--momentum", type=real(0, 1), metavar="M", help="of sgd")
    how.add_argument(
        "--weight-decay", type=real(0), metavar="W", help="of adam, by default, 0; of adamw 0.01"
    )
    how.add_argument(
        "--seed", type=integer(0), metavar="N", help="of the random numbers (default 0)"
    )
    how.add_argument(
        "--patience",
        type=integer(1),
        metavar="N",
        help="stop when the validation loss has not become better for N epochs",
    )
    how.add_argument(
        "--device", type=one_of(("cpu", "cuda")), help="cpu (default), or cuda: an NVIDIA GPU"
    )
    how.add_argument(
        "--precision",
        type=one_of(PRECISIONS),
        help="of the products on a GPU: " + ", ".join(PRECISIONS) + " (default fp32)",
    )
    add_threads_option(parser)
    where = parser.add_argument_group("where things go")
    where.add_argument(
        "--output",
        metavar="FILE",
        help="weights (default MODEL.safetensors); MODEL.history.json goes beside them",
    )
    where.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="keep the checkpoint there (default MODEL.ckpt, removed at the end)",
    )
    where.add_argument("--resume", metavar="DIR", help="go on with the training in this folder")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: Args) -> Result:
    """Train, test, save."""
    import numpy as np

    import convcore
    from convcore.callbacks import TrainingCheckpoint
    from convcore.serialization import load_checkpoint, write_atomically

    use_threads(args)
    _network.expect_model(args.model)
    if args.resume is None:
        settings = _settings.from_command_line(args)
    else:
        settings = _settings.from_checkpoint(args)
    if settings.device == "cuda":
        convcore.cuda.get_device_name()  # an error now, not after the data are read
    folder = Path(args.checkpoint or args.resume or settings.stem + ".ckpt")
    _expect_writable(settings, folder)
    train, test = (
        _network.load_data(settings.data, split, settings.data_dir) for split in ("train", "test")
    )

    convcore.manual_seed(settings.seed)
    model = _network.create(settings.model, train.x.shape[1:], len(train.classes))
    model.compile(settings.make_optimizer, settings.make_loss(), precision=settings.precision)
    begin, history = 0, convcore.History()
    if args.resume is not None:
        begin, history = load_checkpoint(args.resume, model, model.optimizer)
    keeper = TrainingCheckpoint(folder, history, extra={"settings": settings.to_dict()})
    if args.resume is None and keeper.path.exists():
        _note(f"{folder} holds another training (see --resume); the first epoch will replace it")

    start = time.perf_counter()
    try:
        _fit(model, train, test, settings, keeper, begin, args.quiet)
        seconds = time.perf_counter() - start
        score = _network.score(model, test)
    except KeyboardInterrupt:
        raise _interrupted(args, keeper, begin) from None
    later = model.history or convcore.History()
    history.extend(later)

    diverged = not all(np.isfinite(array).all() for array in model.state_dict().values())
    if diverged and Path(settings.output).exists():
        if settings.checkpoint is None:
            _remove(keeper)
        raise ValueError(
            f"the training diverged: the weights have become NaN or infinite, so {settings.output} "
            "stays as it was (try a smaller --lr)"
        )
    card = _network.Card.of(settings.model, train, settings.data_dir)
    model.save(settings.output, extra=card.to_dict())
    write_atomically(settings.history_file, history.to_json(indent=1).encode())
    if settings.checkpoint is None:
        _remove(keeper)
    training_seconds = sum(later.history.get("seconds", []))
    document = {
        **settings.to_dict(),
        "interrupted": False,
        "epochs": len(history.epoch),
        "train_images": len(train),
        "test_images": len(test),
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": score.accuracy,
        "test_loss": score.loss,
        "seconds": seconds,
        "images_per_second": len(train) * len(later.epoch) / max(training_seconds, 1e-9),
        "history_file": settings.history_file,
        "history": history.history,
    }
    return Result(document, _table(document))


def _fit(
    model: Model,
    train: Dataset,
    test: Dataset,
    settings: Settings,
    keeper: TrainingCheckpoint,
    begin: int,
    quiet: bool,
) -> None:
    """Train from epoch `begin` on."""
    from convcore.callbacks import LearningRateScheduler
    from convcore.cli._patience import Patience

    callbacks: list[Callback] = [LearningRateScheduler(settings.learning_rate)]
    epochs = settings.epochs
    if settings.patience is not None:
        patience = Patience(settings.patience, keeper.earlier.history.get("val_loss", []))
        callbacks.append(patience)
        if patience.exhausted():
            epochs = begin
    callbacks.append(keeper)
    if not quiet:
        _note(_plan(settings, begin, epochs, len(train), len(test)))
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _note(f"warning: {describe(message)}")
        model.fit(
            train.x,
            train.y,
            epochs=epochs,
            batch_size=settings.batch_size,
            validation_data=(test.x, test.y),
            callbacks=callbacks,
            verbose=0 if quiet else 1,
            initial_epoch=begin,
            augment=settings.make_augment(),
            device=settings.device,
        )


def _plan(settings: Settings, begin: int, epochs: int, train_images: int, test_images: int) -> str:
    """Say what is going to run."""
    if begin >= epochs:
        done = "1 epoch is" if begin == 1 else f"{begin} epochs are"
        return f"{done} done already: nothing left to do"
    return (
        f"{settings.model} on {settings.data}: {train_images:,} training images, validation = test "
        f"split of {test_images:,}; {settings.optimizer}, learning rate {settings.lr:g}, batches "
        f"of {settings.batch_size}{', augmented' if settings.augment else ''}; "
        f"epochs {begin + 1} to {epochs}"
    )


def _interrupted(args: Args, keeper: TrainingCheckpoint, begin: int) -> Interrupted:
    """Say what is kept of a training that Ctrl-C ended, and how to go on."""
    if keeper.epoch is not None:
        done, kept_in = keeper.epoch, str(keeper.directory)
    elif args.resume is not None:
        done, kept_in = begin, args.resume
    else:
        return Interrupted(
            "the first epoch was not complete, so there is nothing to go on from",
            {"interrupted": True, "epochs": 0, "checkpoint": None},
        )
    epochs = "1 complete epoch is" if done == 1 else f"{done} complete epochs are"
    return Interrupted(
        f"{epochs} kept in {kept_in}; go on with: "
        f"convcore train {args.model} --resume {shlex.quote(kept_in)}",
        {"interrupted": True, "epochs": done, "checkpoint": kept_in},
    )


def _remove(keeper: TrainingCheckpoint) -> None:
    """Remove the checkpoint, and its folder unless other things lie in it."""
    keeper.path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        keeper.directory.rmdir()


def _table(document: Document) -> str:
    d = document
    saved = f"{d['output']}, {d['history_file']}"
    if d["checkpoint"] is not None:
        saved += f", checkpoint in {d['checkpoint']}"
    loss = f"{d['test_loss']:.4f}"
    if d["label_smoothing"]:
        loss += f" (the losses per epoch include label smoothing {d['label_smoothing']:g})"
    images = f"{d['train_images']:,} training images, {d['test_images']:,} test images"
    return facts(
        [
            ("network", f"{d['model']}, {d['parameters']:,} parameters"),
            ("data", f"{d['data']}, {images}"),
            ("epochs", f"{d['epochs']}"),
            ("test accuracy", f"{d['test_accuracy']:.2%}"),
            ("test loss", loss),
            ("time", f"{d['seconds']:.1f} s ({d['images_per_second']:,.0f} images/s in training)"),
            ("saved", saved),
        ]
    )


# ---- what is found before the training -----------------------------------------------------------


def _expect_writable(settings: Settings, folder: Path) -> None:
    """Raise when a file of the training could not be written at its end."""
    for name in (settings.output, settings.history_file):
        expect_writable(name)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{folder} cannot be written: {existing} is not a folder")
    try_to_write(str(folder), existing)


def _note(text: str) -> None:
    print(f"convcore train: {text}", file=sys.stderr)
