"""The progress of a training where there is no terminal."""

import pytest

from classify.networks import epochs


def test_a_line_each_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards logs: not a line for each of 50 epochs, but one for each minute, with that epoch's figures."""
    clock = iter(range(0, 10_000, 20))  # an epoch takes 20 s, by a clock that is looked at once or twice each
    now = [0.0]
    monkeypatch.setattr(epochs.time, "monotonic", lambda: now[0])
    told = epochs.Epochs(50, 0)
    for epoch, now[0] in zip(range(1, 11), clock, strict=False):
        told.tell(epoch, {"loss": [9.0, 1.0 / epoch], "val_loss": []})
    told.close()
    assert capsys.readouterr().err.splitlines() == [
        "epoch 4 of 50: loss 0.2500",
        "epoch 7 of 50: loss 0.1429",
        "epoch 10 of 50: loss 0.1000",
    ]
