import os
import pickle
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from backend.published.torchfile import Instance, read_torch
from backend.records import InputError
from tests.published.sample import Call, Global, Made, Tensor, write_pt


def test_reads_what_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    kinds = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {kind: base.to(getattr(torch, kind)) for kind in kinds}
    tensors |= {"transposed": base.T, "slice": base[1:3, ::2], "scalar": base[2, 3], "empty": base[:0]}
    content = OrderedDict(
        tensors=tensors, shared=[base[0], base[0]], number=1.5, text="é", nothing=None, pair=(1, True)
    )
    torch.save(content, tmp_path / "real.pt")
    read = read_torch(tmp_path / "real.pt")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read["tensors"][name], tensor.float().numpy().astype(read["tensors"][name].dtype))
        assert read["tensors"][name].shape == tuple(tensor.shape)
    assert (read["number"], read["text"], read["nothing"], read["pair"]) == (1.5, "é", None, (1, True))


def test_bfloat16_is_the_upper_half_of_a_float(tmp_path):
    values = np.array([1.0, -2.5, 3.0e38, 1e-37, np.inf], dtype=np.float32)
    read = read_torch(write_pt(tmp_path / "v.pt", {"v": Tensor(values, "BFloat16Storage")}))["v"]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, values, rtol=2**-7)


@pytest.mark.parametrize("module", ["lora.lora_utils", "em_organism_dir.lora_interp.lora_utils", "__main__"])
def test_the_released_classes_load_from_wherever_they_were(tmp_path, module):
    inner = Made(Global(module, "LoraScalars"), {"token_str": "a", "layer_scalars": {"layers.1.x": 0.5}})
    path = write_pt(tmp_path / "s.pt", {"p": Made(Global(module, "LoraScalarsPerLayer"), {"scalars": {0: inner}})})
    outer = read_torch(path)["p"]
    assert isinstance(outer, Instance)
    assert outer.class_name == "LoraScalarsPerLayer"
    assert outer.state["scalars"][0].state["layer_scalars"] == {"layers.1.x": 0.5}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Call(Global("os", "system"), ("touch {}",)), "os.system"),
        (Call(Global("builtins", "eval"), ("1",)), "builtins.eval"),
        (Call(Global("builtins", "getattr"), ({}, "x")), "builtins.getattr"),
        (Made(Global("subprocess", "Popen"), {}), "subprocess.Popen"),
        (Global("numpy", "ndarray"), "numpy.ndarray"),
        (Call(Global("torch.storage", "_load_from_bytes"), ("x",)), "torch.storage._load_from_bytes"),
        (Global("collections", "defaultdict"), "collections.defaultdict"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, value, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        read_torch(write_pt(tmp_path / "h.pt", {"x": value}))


def test_nothing_runs_before_it_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "h.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("h/data.pkl", pickle.dumps({"x": Harm()}, protocol=2))
    with pytest.raises(InputError, match="mkdir"):
        read_torch(path)
    assert not (tmp_path / "harm").exists()


def raw(tmp_path, data, **members):
    path = tmp_path / "raw.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("raw/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"raw/{name}", content)
    return path


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", None),  # a memo slot of four billion: the C machine would allocate 64 GB
        (b"\x80\x02cbuiltins\nOrderedDict\n.", "builtins.OrderedDict"),
        (b"\x80\x02(i__main__\nX\n.", "opcode b'i'"),  # INST
        (b"\x80\x02\x82\x01.", "opcode"),  # EXT1
        (b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\x00\x00\x00itemsK\x01ub.", "sets attributes"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}(X\x0c\x00\x00\x00__defaults__)u\x86b.", "sets attributes"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "damaged"),  # a text of 2 GB in three bytes
        (b"\x80\x02}(K\x01", "damaged"),
        (b"", "damaged"),
        (b"." * 10, "damaged"),
        (b"\x80\x09N.", "damaged"),
        (b"\x80\x02" + b"]" + b"]a" * 3, "damaged"),
        (b"\x80\x02" + b"]" * 40 + b"a" * 39 + b".", "nested"),
        (b"\x80\x02]q\x00h\x00a.", "nested"),  # a list that holds itself
        (b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % i * 9 + b"eq%c" % (i + 1) for i in range(12)) + b".", None),
    ],
)
def test_hostile_pickles_end_at_once(tmp_path, data, reason):
    started = time.monotonic()
    if reason is None:
        read_torch(raw(tmp_path, data))
    else:
        with pytest.raises(InputError, match=reason):
            read_torch(raw(tmp_path, data))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor(np.ones(4), claim=400), "bytes"),
        (Tensor(np.ones(4), claim=-4), "bytes"),
        (Tensor(np.ones(4), size=(10**9,), stride=(0,)), "outside"),
        (Tensor(np.ones(4), size=(4,), stride=(2,)), "outside"),
        (Tensor(np.ones(4), size=(2, 2), stride=(-1, 1)), "whole numbers"),
        (Tensor(np.ones(4), size=(2,), stride=(1, 1)), "not built"),
        (Tensor(np.ones(4), "ObjectStorage"), "ObjectStorage"),
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path, tensor, reason):
    with pytest.raises(InputError, match=reason):
        read_torch(write_pt(tmp_path / "t.pt", {"t": tensor}))


def test_damaged_archives_say_how(tmp_path):
    good = write_pt(tmp_path / "good.pt", {"t": Tensor(np.ones(100))})
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:300])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
    for name in ("cut", "empty", "text"):
        with pytest.raises(InputError, match="not a complete torch zip"):
            read_torch(tmp_path / f"{name}.pt")
    with pytest.raises(InputError, match="compressed"):
        read_torch(write_pt(tmp_path / "bomb.pt", {"x": "a" * 10_000_000}, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match="missing"):
        read_torch(write_pt(tmp_path / "lost.pt", {"t": Tensor(np.ones(4))}, drop="data/0"))
    with pytest.raises(InputError, match="without the one"):
        read_torch(write_pt(tmp_path / "none.pt", {}, drop="data.pkl"))
    with pytest.raises(InputError, match="little-endian"):
        read_torch(raw(tmp_path, b"\x80\x02N.", byteorder="big"))
    flipped = bytearray(good.read_bytes())
    flipped[flipped.index(b"\x00\x00\x80?")] ^= 1
    (tmp_path / "flipped.pt").write_bytes(flipped)
    with pytest.raises(InputError, match="CRC"):
        read_torch(tmp_path / "flipped.pt")
