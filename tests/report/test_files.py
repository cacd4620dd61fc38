import pytest
from etils import epath

from ganjax.errors import RunError
from ganjax.report import files


def test_write_atomically_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.bin"
    files.write_atomically(path, b"one")
    files.write_atomically(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["b.bin"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, interruption):
    path = tmp_path / "b.bin"
    files.write_atomically(path, b"old")
    write_bytes = type(epath.Path(path)).write_bytes

    def half(self, data):
        write_bytes(self, data[: len(data) // 2])
        raise interruption("no space left")

    monkeypatch.setattr(type(epath.Path(path)), "write_bytes", half)
    with pytest.raises(RunError if interruption is OSError else KeyboardInterrupt, match="no space left"):
        files.write_atomically(path, b"the new content")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.bin"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match=r"can't write .*taken/x\.png: "):
        files.write_atomically(tmp_path / "taken" / "x.png", b"")


def test_is_local():
    assert files.is_local("runs/x")
    assert files.is_local("/gs-like/x")
    assert not files.is_local("gs://bucket/x")
