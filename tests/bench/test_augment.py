"""The times of the transforms beside others."""

from __future__ import annotations

import convcore
from convcore.bench import augment


def test_every_transform_has_a_line(monkeypatch, capsys):
    monkeypatch.setattr(augment, "torch_side", lambda x: {})  # it sets torch's threads for good
    monkeypatch.setattr(augment, "SHAPE", (3, 3, 32, 32))
    augment.main(["--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    x = augment.np.zeros(augment.SHAPE, augment.np.uint8)
    assert [line[:20].strip() for line in lines] == ["us per image", *augment.ours(x)]
    assert convcore.num_threads() == 1
