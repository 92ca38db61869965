"""What a training run is asked to do: the settings that every checkpoint carries."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from convgrad.errors import SettingError, TrainingError
from convgrad.nn.network import DTYPES

# Found by holding out training samples of the digits; half_mse learns through flat sigmoids. Its
# rate for sgd is for momentum 0.9: with the toolbox's own rate 1, some seeds never start to learn.
LEARNING_RATES = {"sgd": 0.02, "rmsprop": 0.001, "adam": 0.002, "adamw": 0.002}
HALF_MSE_RATES = {"sgd": 0.4, "rmsprop": 0.01, "adam": 0.02, "adamw": 0.02}


@dataclass(frozen=True)
class Settings:
    """All that decides the bits of a run, apart from the data, the model's description and the
    machine, which a checkpoint holds beside it.

    `lr`, `momentum` and `loss` may be None when asked for: `resolved` puts in what they then mean.
    `weight_decay` None is the optimizer's own default.
    `shift` moves each training image by up to that many pixels, anew in each epoch.
    `threads` is the number that NumPy's matrix products use.
    `validation` is the share of the training samples that is held out and only looked at.
    """

    data: str = "digits"
    model: str = "lenet"
    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str = "cosine"
    loss: str | None = None
    shift: int = 1
    validation: float = 0.1
    limit: int | None = None
    seed: int = 0
    algorithm: str = "auto"
    precision: str = "standard"
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 1, "batch-size", self.batch_size, "at least 1")
        _require(self.lr is None or 0 < self.lr < float("inf"), "lr", self.lr, "above 0")
        _require(self.shift >= 0, "shift", self.shift, "0 or more pixels")
        _require(0 <= self.validation < 1, "validation", self.validation, "from 0 to below 1")
        _require(self.limit is None or self.limit >= 1, "limit", self.limit, "at least 1 sample")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.threads >= 1, "threads", self.threads, "at least 1")
        _require(self.dtype in DTYPES, "dtype", self.dtype, "one of " + ", ".join(DTYPES))

    def resolved(self, default_loss: str) -> Settings:
        """The same settings with nothing left open."""
        momentum = self.momentum
        if momentum is None and self.optimizer == "sgd":
            momentum = 0.9
        loss = self.loss or default_loss
        rates = HALF_MSE_RATES if loss == "half_mse" else LEARNING_RATES
        lr = rates.get(self.optimizer) if self.lr is None else self.lr
        return replace(self, lr=lr, momentum=momentum, loss=loss)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _require(holds: bool, name: str, value: object, needed: str) -> None:
    if not holds:
        raise SettingError(f"--{name} is {value}; it must be {needed}")


def settings_from_dict(values: dict[str, Any]) -> Settings:
    """Settings as a checkpoint holds them; TrainingError names what is unknown or missing."""
    known = {field.name for field in fields(Settings)}
    odd = sorted(known ^ set(values))
    if odd:
        raise TrainingError(
            f"the checkpoint's settings do not fit this version of convgrad ({', '.join(odd)}); "
            "use the version that wrote it"
        )
    return Settings(**values)


def continued(stored: Settings, asked: dict[str, Any]) -> Settings:
    """The settings to resume with: the stored ones, and `epochs` if it grew.

    `asked` holds only what the caller named. Raises TrainingError with every contradiction.
    `data` may name another place: what lies there is compared by its digest, not by its name.
    """
    free = ("epochs", "data")
    clashes = [
        f"--{name.replace('_', '-')} was {getattr(stored, name)} and is now {value}"
        for name, value in asked.items()
        if name not in free and value != getattr(stored, name)
    ]
    epochs = asked.get("epochs", stored.epochs)
    if epochs < stored.epochs:
        clashes.append(f"--epochs was {stored.epochs} and can only grow, not become {epochs}")
    if clashes:
        raise TrainingError(
            "a resumed run keeps its settings, but " + "; ".join(clashes) + ". "
            "Leave these options out, or start a new run without --resume"
        )
    return replace(stored, epochs=epochs, data=asked.get("data", stored.data))
