"""Training: steps against PyTorch, resuming to the same bits, refusals, and the accuracy."""

from dataclasses import replace

import numpy as np
import pytest

from convgrad.errors import DataError, SettingError, TrainingError
from convgrad.nn import models
from convgrad.nn.data import source
from convgrad.nn.data.dataset import Dataset
from convgrad.nn.training import batches, checkpoint, machine
from convgrad.nn.training.blas_threads import blas_threads, using_blas_threads
from convgrad.nn.training.evaluation import accuracy, outputs
from convgrad.nn.training.history import History
from convgrad.nn.training.run import NonFiniteError, Run, one_step, start, train
from convgrad.nn.training.settings import Settings, continued, settings_from_dict
from convgrad.nn.training.state import differences, restored, snapshot

TINY = "conv 4 3 same, batchnorm, relu, maxpool 2, flatten, dropout 0.3, linear 10"
ASKED = Settings(
    model=TINY,
    epochs=2,
    batch_size=16,
    optimizer="adam",
    shift=1,
    limit=100,
    validation=0.2,
    schedule="cosine",
    seed=7,
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return source.load("digits")


def begun(settings: Settings, dataset: Dataset) -> Run:
    spec = models.resolve(settings.model, dataset.input_shape, len(dataset.classes))
    return start(settings, spec, dataset)


def finished(settings: Settings, dataset: Dataset) -> Run:
    run = begun(settings, dataset)
    assert train(run, lambda run: None)
    return run


def same_bits(a: Run, b: Run) -> None:
    first, second = snapshot(a), snapshot(b)
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name
    assert first.facts["rng"] == second.facts["rng"]


def test_steps_are_those_of_pytorch(digits: Dataset) -> None:
    torch = pytest.importorskip("torch")
    settings = Settings(
        model="conv 4 3 same, relu, flatten, linear 10",
        epochs=2,
        batch_size=16,
        limit=50,
        lr=0.1,
        momentum=0.8,
        weight_decay=0.01,
        schedule="cosine",
        dtype="float64",
        shift=0,
        validation=0.0,
    )
    run = begun(settings, digits)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding="same"),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(256, 10),
    ).double()
    with torch.no_grad():
        for theirs, ours in zip(model.parameters(), run.model.parameters().values(), strict=True):
            theirs.copy_(torch.from_numpy(ours).reshape(theirs.shape))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.8, weight_decay=0.01)
    steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    x = (digits.x_train[:50] - digits.mean) / digits.std
    for epoch in range(2):
        order = np.random.default_rng([0, 1, epoch]).permutation(50)
        kept, _ = batches.hold_out(digits.y_train[:50], 0.0, 0)
        assert kept.tolist() == list(range(50))
        for part in np.split(order, [16, 32, 48]):
            loss = torch.nn.functional.cross_entropy(
                model(torch.from_numpy(x[part]).double()), torch.from_numpy(digits.y_train[part])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.step()
            one_step(run)
            assert run.history.losses[-1] == pytest.approx(loss.item(), rel=1e-10)
    for theirs, ours in zip(model.parameters(), run.model.parameters().values(), strict=True):
        np.testing.assert_allclose(ours.ravel(), theirs.detach().numpy().ravel(), atol=1e-10)


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 9])
def test_a_cut_run_goes_on_to_the_same_bits(cut, tmp_path, digits: Dataset) -> None:
    whole = finished(ASKED, digits)
    run = begun(ASKED, digits)
    assert not train(run, lambda run: None, should_stop=lambda: run.step == cut)
    assert run.step == cut
    checkpoint.write(tmp_path / "c", snapshot(run))
    again, _ = restored(checkpoint.read(tmp_path / "c"), {}, source.load)
    assert again.step == cut
    assert train(again, lambda run: None)
    same_bits(whole, again)
    assert len(again.history.validation) == 2


def test_saving_more_often_changes_nothing_else(digits: Dataset) -> None:
    run, saved_at = begun(ASKED, digits), []
    train(run, lambda run: saved_at.append(run.step), save_every=2)
    assert saved_at == [0, 2, 4, 5, 6, 8, 10]  # every second step, and each epoch of five steps
    same_bits(run, finished(ASKED, digits))


def test_more_epochs_are_one_run_if_the_schedule_allows_it(digits: Dataset) -> None:
    steady = replace(ASKED, schedule="constant")
    short = snapshot(finished(steady, digits))
    longer, _ = restored(short, {"epochs": 3}, source.load)
    assert train(longer, lambda run: None)
    same_bits(longer, finished(replace(steady, epochs=3), digits))


def test_more_epochs_are_refused_if_the_learning_rates_would_have_differed(digits) -> None:
    short = snapshot(finished(ASKED, digits))
    with pytest.raises(TrainingError, match=r"cosine.*other learning rates.*constant"):
        restored(short, {"epochs": 3}, source.load)


def test_contradictions_are_all_named() -> None:
    stored = Settings(lr=0.1, batch_size=32)
    with pytest.raises(TrainingError, match=r"--lr was 0.1 and is now 0.2; --batch-size was 32"):
        continued(stored, {"lr": 0.2, "batch_size": 8, "epochs": stored.epochs})
    with pytest.raises(TrainingError, match="--epochs was 20 and can only grow, not become 3"):
        continued(replace(stored, epochs=20), {"epochs": 3})
    assert continued(stored, {"lr": 0.1, "epochs": 99}).epochs == 99


def test_settings_of_another_version_are_refused() -> None:
    values = Settings().as_dict()
    assert settings_from_dict(values) == Settings()
    del values["seed"]
    with pytest.raises(TrainingError, match="seed"):
        settings_from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"lr": 0.0}, "--lr is 0.0; it must be above 0"),
        ({"lr": float("inf")}, "--lr is inf"),
        ({"shift": -1}, "--shift is -1"),
        ({"validation": 1.0}, "--validation is 1.0"),
        ({"limit": 0}, "--limit is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"dtype": "int8"}, "--dtype is int8; it must be one of float16, float32, float64"),
    ],
)
def test_settings_out_of_range(values, message) -> None:
    with pytest.raises(SettingError, match=message):
        Settings(**values)


def test_other_data_is_refused_and_moved_data_is_found(digits: Dataset) -> None:
    saved = snapshot(begun(ASKED, digits))
    changed = replace(digits, x_train=digits.x_train[::-1].copy())
    with pytest.raises(TrainingError, match="not those the run began with"):
        restored(saved, {}, lambda name: changed)
    moved, _ = restored(saved, {"data": "elsewhere"}, lambda name: digits)
    assert moved.settings.data == "elsewhere"

    def gone(name: str) -> Dataset:
        raise DataError("no such folder")

    with pytest.raises(TrainingError, match=r"no such folder\. .* pass it as --data"):
        restored(saved, {}, gone)


def test_an_exploding_loss_stops_with_step_and_layer(digits: Dataset) -> None:
    asked = Settings(model="conv 4 3 same, flatten, linear 10", lr=1e30, limit=64, epochs=3)
    run, saved = begun(asked, digits), []
    with pytest.raises(
        NonFiniteError, match=r"step \d+ \(epoch 1\).*0\d_\w+.*smaller --lr"
    ) as caught:
        train(run, lambda run: saved.append(snapshot(run)), save_every=1)
    assert f"step {run.step + 1} " in str(caught.value)
    for state in saved:
        assert all(np.isfinite(array).all() for array in state.group("parameters").values())


def test_a_parameter_that_overflows_is_never_saved(digits: Dataset) -> None:
    run, saved = begun(replace(ASKED, limit=16), digits), []

    def spoil(run: Run) -> None:
        run.model.parameters()["00_conv.weight"][0, 0, 0, 0] = np.inf

    with pytest.raises(NonFiniteError, match=r"00_conv\.weight became infinite"):
        train(run, lambda run: saved.append(run.step), on_step=spoil, save_every=1)
    assert saved == [0]


def test_what_may_change_bits_is_told(digits: Dataset, monkeypatch) -> None:
    monkeypatch.setattr(machine, "blas_threads", lambda: 3)
    saved = snapshot(begun(ASKED, digits))
    assert differences(saved) == []
    monkeypatch.setattr(machine, "blas_threads", lambda: None)
    for name in machine.THREAD_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    (told,) = differences(saved)
    assert told.startswith("the number of BLAS threads was 3 and is now ")
    assert told.endswith(" cores, OPENBLAS_NUM_THREADS=7")


def test_blas_threads_are_set_and_put_back() -> None:
    before = blas_threads()
    if "openblas" not in machine.blas():
        assert before is None
        return
    assert before is not None
    with using_blas_threads(1):
        assert blas_threads() == 1
        with using_blas_threads(2):
            assert blas_threads() == 2
        assert blas_threads() == 1
    assert blas_threads() == before


def test_a_model_that_does_not_fit_the_data_is_refused(digits: Dataset) -> None:
    spec = models.named("lenet", (1, 16, 16), 10)
    with pytest.raises(TrainingError, match=r"\(1, 16, 16\).*\(1, 8, 8\)"):
        start(Settings(), spec, digits)
    spec = models.named("lenet", (1, 8, 8), 3)
    with pytest.raises(TrainingError, match=r"\(3,\).*10 classes"):
        start(Settings(), spec, digits)


def test_epoch_order() -> None:
    first, second = batches.epoch_order(50, 3, 0), batches.epoch_order(50, 3, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() != batches.epoch_order(50, 4, 0).tolist()
    parts = [
        batches.batch_of(first, 16, i).tolist() for i in range(batches.steps_per_epoch(50, 16))
    ]
    assert [sample for part in parts for sample in part] == first.tolist()
    assert [len(part) for part in parts] == [16, 16, 16, 2]


def test_shifted_moves_whole_images_and_lets_zeros_in() -> None:
    x = np.arange(1.0, 13.0).reshape(1, 1, 3, 4).repeat(200, axis=0)
    y = batches.shifted(x, 1, seed=0, step=5)
    padded = np.pad(x[0, 0], 1)
    possible = {padded[r : r + 3, c : c + 4].tobytes() for r in range(3) for c in range(3)}
    assert {image.tobytes() for image in y[:, 0]} == possible  # all nine, in 200 drawings
    assert batches.shifted(x, 0, 0, 5) is x
    assert batches.shifted(x, 1, 0, 5).tobytes() == y.tobytes()
    assert batches.shifted(x, 1, 0, 6).tobytes() != y.tobytes()


def test_hold_out_takes_the_same_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    kept, held = batches.hold_out(labels, 0.2, seed=1)
    assert sorted([*kept, *held]) == list(range(60))
    assert np.bincount(labels[held]).tolist() == [2, 4, 6]
    with pytest.raises(TrainingError, match="leaves no sample"):
        batches.hold_out(np.array([0, 1]), 0.9, seed=1)


def test_history_weighs_batches_by_their_size() -> None:
    history = History(samples=5, batch_size=2)
    history.losses, history.correct = [1.0, 2.0, 6.0, 3.0], [1, 2, 1, 0]
    assert history.steps_per_epoch == 3
    assert history.epochs_done == 1
    assert history.epoch_losses() == [(1 * 2 + 2 * 2 + 6 * 1) / 5]
    assert history.epoch_accuracies() == [4 / 5]
    assert history.seen_in(1) == 2
    assert history.accuracy_of(1) == 0.0


@pytest.mark.serial
def test_the_defaults_reach_98_percent_as_the_mean_over_five_seeds(digits: Dataset) -> None:
    shares = []
    for seed in range(5):
        with using_blas_threads(Settings.threads):
            run = finished(Settings(seed=seed), digits)
            scores = outputs(run.model, run.samples.normalised(digits.x_test))
        shares.append(accuracy(digits.y_test, scores.argmax(axis=1)))
    assert len(digits.y_test) == 360
    assert np.mean(shares) >= 0.98, shares
