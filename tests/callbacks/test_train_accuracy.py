"""A cached training accuracy that was cut short is not read as another number."""

import pytest

from respike.callbacks.train_accuracy import read_accuracy
from respike.system.cache import DAMAGE
from respike.system.files import write_json


def test_a_cut_accuracy_is_damage(tmp_path):
    file = tmp_path / "accuracy.json"
    write_json(file, 0.30333333333333334)
    whole = file.read_bytes()
    assert read_accuracy(tmp_path) == 0.30333333333333334
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DAMAGE):
            read_accuracy(tmp_path)


@pytest.mark.parametrize("wrong", ["high", 7, -0.1, [0.5], None])
def test_anything_but_a_share_is_damage(tmp_path, wrong):
    write_json(tmp_path / "accuracy.json", wrong)
    with pytest.raises(DAMAGE):
        read_accuracy(tmp_path)
