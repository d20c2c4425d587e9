from pathlib import Path

import pytest
import torch

from geo_retina.errors import ModelError
from geo_retina.model.state_dict import read_state_dict


class Payload:
    """Something that only code can rebuild."""


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_tensors_are_found_inside_a_training_checkpoint(tmp_path: Path, key: str) -> None:
    torch.save({key: {"a": torch.ones(2)}, "epoch": 1}, tmp_path / "x.pt")
    assert list(read_state_dict(tmp_path / "x.pt")) == ["a"]


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot read the weights"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot read the weights"):
        read_state_dict(tmp_path / name)


def test_no_code_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Payload()}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"save its state_dict\(\) alone"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize(("content", "text"), [({"epoch": 3}, "it has epoch"), ([1, 2], "a list")])
def test_a_file_without_tensors_is_an_error(tmp_path: Path, content: object, text: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=text):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "content", [b"recall 0.7\nclasses: tree\n", b"\x93\x00\xff" * 9, b"\xff\xfe"]
)
def test_what_is_no_pickle_is_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ModelError, match="cannot read the weights"):
        read_state_dict(tmp_path / "x.pt")
