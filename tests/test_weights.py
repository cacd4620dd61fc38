import hashlib
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from ganjax.errors import RunError
from ganjax.weights import read_weights


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, size, shape, strides, offset=0, kind="FloatStorage", view=b""):
    """The instructions by which PyTorch rebuilds a tensor; `view` is the legacy format's."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(size)
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + view + b"tQ" + number(offset) + numbers(shape) + numbers(strides) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + hooks + b"tR"


def state_dict(**tensors):
    items = b"".join(text(name) + instructions for name, instructions in tensors.items())
    attributes = b"}" + text("_metadata") + b"}sb"
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u" + attributes + b"."


def torch_zip(tree, storages, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("name/data.pkl", tree)
        for key, content in {**{f"data/{k}": v for k, v in storages.items()}, **members}.items():
            archive.writestr(f"name/{key}", content)
    return file.getvalue()


def torch_legacy(tree, storages, item=4):
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [tree, pickle.dumps(list(storages), 2)]
    return b"".join(parts) + b"".join(struct.pack("<q", len(v) // item) + v for v in storages.values())


X = np.arange(12, dtype=np.float32)


@pytest.fixture
def write(tmp_path):
    def write(content, name="weights.bin"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def test_a_state_dict_in_a_zip(write):
    tree = state_dict(
        whole=tensor("0", 12, (3, 4), (4, 1)),
        part=tensor("0", 12, (2, 2), (1, 4), offset=5),  # a transposed window
        scalar=tensor("1", 1, (), (), kind="LongStorage"),
        empty=tensor("0", 12, (0, 3), (3, 1)),
    )
    content = torch_zip(tree, {"0": X.tobytes(), "1": struct.pack("<q", -7)}, byteorder="little")
    weights = read_weights(write(content))
    assert weights.format == "torch"
    assert weights.sha256 == hashlib.sha256(content).hexdigest()
    assert list(weights.arrays) == ["whole", "part", "scalar", "empty"]
    np.testing.assert_array_equal(weights.arrays["whole"], X.reshape(3, 4))
    np.testing.assert_array_equal(weights.arrays["part"], [[5, 9], [6, 10]])
    assert weights.arrays["scalar"] == -7
    assert weights.arrays["empty"].shape == (0, 3)
    big = torch_zip(tree, {"0": X.byteswap().tobytes(), "1": struct.pack(">q", -7)}, byteorder="big")
    for name, array in read_weights(write(big)).arrays.items():
        np.testing.assert_array_equal(array, weights.arrays[name])
        assert array.dtype == weights.arrays[name].dtype


def test_half_precision(write):
    half = np.asarray([1.5, -2], np.float16).tobytes()
    bfloat = b"\xc0\x3f\x00\xc0"  # the upper halves of the float32 1.5 and -2
    tree = state_dict(
        half=tensor("0", 2, (2,), (1,), kind="HalfStorage"),
        bfloat=tensor("1", 2, (2,), (1,), kind="BFloat16Storage"),
    )
    arrays = read_weights(write(torch_zip(tree, {"0": half, "1": bfloat}))).arrays
    assert arrays["half"].dtype == np.float16
    assert arrays["bfloat"].dtype == np.float32
    for array in arrays.values():
        np.testing.assert_array_equal(array, [1.5, -2])


def test_torchscript(write):
    inner = b"c__torch__.nets\nConv\n)\x81}(" + text("weight") + tensor("0", 12, (12,), (1,)) + b"ub"
    tree = (
        b"\x80\x02c__torch__.nets\nNet\n)\x81}(" + text("training") + b"\x89" + text("conv") + inner + b"ub."
    )
    trap = "import os\nos.abort()\n"
    content = torch_zip(
        tree, {"0": X.tobytes()}, **{"constants.pkl": b"\x80\x02).", "code/__torch__.py": trap}
    )
    weights = read_weights(write(content))
    assert weights.format == "torchscript"
    np.testing.assert_array_equal(weights.arrays["conv.weight"], X)


def test_the_older_format_of_pytorch(write):
    view = b"(" + text("v") + number(3) + number(4) + b"t"
    tree = state_dict(
        whole=tensor("7", 12, (3, 4), (4, 1), view=b"N"),
        part=tensor("7", 12, (4,), (1,), view=view),  # of a storage that begins at entry 3
        other=tensor("8", 2, (2,), (1,), kind="FloatStorage", view=b"N"),
    )
    content = torch_legacy(tree, {"7": X.tobytes(), "8": X[:2].tobytes()})
    weights = read_weights(write(content))
    assert weights.format == "torch-legacy"
    np.testing.assert_array_equal(weights.arrays["whole"], X.reshape(3, 4))
    np.testing.assert_array_equal(weights.arrays["part"], X[3:7])
    np.testing.assert_array_equal(weights.arrays["other"], X[:2])
    for cut in (10, 200, len(content) - 1):
        with pytest.raises(RunError, match="damaged weights"):
            read_weights(write(content[:cut]))


def test_files_that_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the files that this test reads")
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3)).eval()
    expected = {name: value.numpy() for name, value in net.state_dict().items()}
    torch.save(net.state_dict(), tmp_path / "zip")
    torch.save(net.state_dict(), tmp_path / "legacy", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, tmp_path / "nested")
    torch.save(
        {"p": net[0].weight, "t": net[0].weight.detach().transpose(0, 1).bfloat16()}, tmp_path / "parameters"
    )
    for name in ("zip", "legacy"):
        arrays = read_weights(tmp_path / name).arrays
        assert set(arrays) == set(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(arrays[key], value)
    assert set(read_weights(tmp_path / "nested").arrays) == {f"state_dict.{key}" for key in expected}
    arrays = read_weights(tmp_path / "parameters").arrays
    np.testing.assert_array_equal(arrays["p"], expected["0.weight"])
    np.testing.assert_allclose(arrays["t"], expected["0.weight"].swapaxes(0, 1), rtol=1e-2)
    torch.save(net, tmp_path / "module")
    with pytest.raises(RunError, match=r"names torch\.nn\.modules.*Nothing in it was run.*state_dict"):
        read_weights(tmp_path / "module")


def test_npz_safetensors_and_trees_of_arrays(tmp_path):
    arrays = {
        "a.weight": X.reshape(3, 4),
        "b": np.asfortranarray(X.reshape(3, 4)),
        "c": np.arange(2, dtype=">i8"),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        weights = read_weights(tmp_path / "x.npz")
        assert weights.format == "npz"
        for name, array in arrays.items():
            np.testing.assert_array_equal(weights.arrays[name], array)
    safetensors.numpy.save_file({"a.weight": X}, tmp_path / "x.safetensors")
    weights = read_weights(tmp_path / "x.safetensors")
    assert weights.format == "safetensors"
    np.testing.assert_array_equal(weights.arrays["a.weight"], X)
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"Net_0": {"Conv_0": {"kernel": X}}}, 3))
    weights = read_weights(tmp_path / "x.ckpt")
    assert weights.format == "pickle"
    np.testing.assert_array_equal(weights.arrays["Net_0.Conv_0.kernel"], X)
    assert not weights.arrays["Net_0.Conv_0.kernel"].flags.writeable


@pytest.mark.parametrize(
    ("tensors", "storages", "message"),
    [
        (tensor("0", 12, (4, 4), (4, 1)), {"0": X}, r"x: the shape \[4, 4\] on 12 entries"),
        (tensor("0", 12, (12,), (1,), offset=1), {"0": X}, "on 12 entries"),
        (tensor("0", 2**30, (2**30,), (1,)), {"0": X}, "1073741824 entries expected in 48 bytes"),
        (tensor("0", 12, (2**30,), (0,)), {"0": X}, "on 12 entries"),  # a gigabyte from four bytes
        (tensor("0", 12, (12,), (-1,)), {"0": X}, "at least 0"),
        (tensor("0", 12, (12,), (1, 1)), {"0": X}, "strides"),
        (tensor("../0", 12, (12,), (1,)), {"0": X}, "missing"),
        (tensor("0", 12, (12,), (1,), kind="QUInt8Storage"), {"0": X}, "names torch.QUInt8Storage"),
    ],
)
def test_tensors_that_lie_are_refused(write, tensors, storages, message):
    with pytest.raises(RunError, match=message) as caught:
        read_weights(write(torch_zip(state_dict(x=tensors), {k: v.tobytes() for k, v in storages.items()})))
    assert "\n" not in str(caught.value)


def test_one_storage_may_not_stand_for_any_number_of_arrays(write, monkeypatch):
    many = {f"x{i}": tensor("0", 2000, (2000,), (1,)) for i in range(5)}
    path = write(torch_zip(state_dict(**many), {"0": bytes(8000)}))
    assert len(read_weights(path).arrays) == 5
    monkeypatch.setattr("ganjax.weights.MAX_BYTES", 20_000)
    with pytest.raises(RunError, match="its arrays are more than 20000 bytes"):
        read_weights(path)


def test_what_is_no_file_of_weights_is_refused_in_one_line(write, tmp_path):
    good = torch_zip(state_dict(x=tensor("0", 12, (12,), (1,))), {"0": X.tobytes()})
    objects = io.BytesIO()
    np.savez(objects, x=np.asarray([{}], object))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("x.npy", b"")
        archive.filelist[0].file_size = 2**33
    head = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    broken_npy = io.BytesIO()
    with zipfile.ZipFile(broken_npy, "w") as archive:
        claim = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            claim, {"shape": (2**40,), "fortran_order": False, "descr": "<f4"}
        )
        archive.writestr("x.npy", claim.getvalue() + b"1234")
    cases = {
        b"": "empty",
        b"<!DOCTYPE html><html>": "a web page",
        b"\x89PNG\r\n\x1a\n" + bytes(20): "not a file of weights that is understood; expected PyTorch's",
        b"cos\nsystem\n(S'true'\ntR.": "not a file of weights",
        b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.": "names os.system. Nothing in it was run",
        pickle.dumps({"a": 1}): "holds no arrays",
        good[:-40]: "damaged weights",
        good[: len(good) // 2]: "damaged weights",
        good.replace(X.tobytes(), X[::-1].tobytes()): "damaged weights",  # its sum of check differs
        objects.getvalue(): "Python objects",
        bomb.getvalue(): "unpacks to",
        broken_npy.getvalue(): "4 bytes, and its head says",
        struct.pack("<Q", len(head)) + head + bytes(16): "damaged weights",
    }
    for content, message in cases.items():
        with pytest.raises(RunError, match=message) as caught:
            read_weights(write(content))
        assert "\n" not in str(caught.value)
        assert "weights.bin" in str(caught.value)
    with pytest.raises(RunError, match="can't be read"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(RunError, match="can't be read"):
        read_weights(tmp_path)


def test_whatever_the_bytes_it_is_arrays_or_one_line(write, tmp_path):
    tree = state_dict(whole=tensor("0", 12, (3, 4), (4, 1)), part=tensor("0", 12, (2, 2), (1, 4), offset=5))
    legacy = state_dict(whole=tensor("0", 12, (3, 4), (4, 1), view=b"N"))
    np.savez(tmp_path / "x.npz", a=X, b=X.reshape(3, 4))
    files = [
        torch_zip(tree, {"0": X.tobytes()}),
        torch_legacy(legacy, {"0": X.tobytes()}),
        (tmp_path / "x.npz").read_bytes(),
        safetensors.numpy.save({"a": X}),
        pickle.dumps({"a": X, "b": [X]}, 4),
    ]
    draw = np.random.default_rng(0)
    for content in files:
        for _ in range(60):
            changed = bytearray(content)
            for _ in range(draw.integers(1, 4)):
                changed[draw.integers(len(changed))] = draw.integers(256)
            try:
                arrays = read_weights(write(bytes(changed))).arrays
            except RunError as error:
                lines = str(error).splitlines()
                assert len(lines) == 1
            else:
                assert sum(array.size for array in arrays.values()) <= 64
