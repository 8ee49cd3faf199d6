"""Directions as files: what goes out comes back, and what others wrote is checked."""

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from backend.records import Direction, InputError
from backend.study.vectors import directions_bytes, read_directions, write_directions

RANDOM = np.random.default_rng(0)


def stack(layers=(1, 2, 5), width=8, name="the paper's direction"):
    return [
        Direction(
            name,
            layer,
            RANDOM.normal(size=width).astype(np.float32),
            10.0 + layer,
            {"model": "tiny", "method": "mean difference", "n_positive": 7, "split_half_cosine": [0.5, 0.1, layer]},
        )
        for layer in layers
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_direction_comes_back_with_all_that_is_known_of_it(tmp_path, suffix):
    path = tmp_path / f"d{suffix}"
    wrote = stack()
    write_directions(path, wrote)
    read = read_directions(path, width=8, layers=6)
    assert [d.layer for d in read] == [1, 2, 5]
    for before, after in zip(wrote, read, strict=True):
        np.testing.assert_array_equal(before.vector, after.vector)
        assert (after.name, after.activation_norm, after.provenance) == (
            before.name,
            before.activation_norm,
            before.provenance,
        )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_subspace_keeps_its_vectors_and_is_no_control_vector(tmp_path):
    basis = stack(layers=(3, 3, 3))
    write_directions(tmp_path / "s.safetensors", basis)
    read = read_directions(tmp_path / "s.safetensors")
    np.testing.assert_array_equal([d.vector for d in read], [d.vector for d in basis])
    with pytest.raises(InputError, match="one direction a layer"):
        directions_bytes(basis, ".gguf")


def test_a_control_vector_is_what_llama_cpp_reads(tmp_path):
    path = tmp_path / "d.gguf"
    wrote = stack()
    write_directions(path, wrote, model="llama")
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 3
    by_name = {tensor.name: tensor for tensor in reader.tensors}
    assert set(by_name) == {"direction.1", "direction.2", "direction.5"}  # block 5 is direction.5, blocks from 0
    for direction in wrote:
        tensor = by_name[f"direction.{direction.layer}"]
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        np.testing.assert_array_equal(tensor.data, direction.vector)


def test_the_first_block_cannot_be_a_control_vector():
    with pytest.raises(InputError, match="layer 0"):
        directions_bytes(stack(layers=(0, 1)), ".gguf")


def foreign(path, tensors, architecture="controlvector"):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "qwen2")
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_control_vector_of_another_program_is_read(tmp_path):
    path = foreign(tmp_path / "happy.gguf", {f"direction.{k}": np.full(4, k, np.float32) for k in (2, 1)})
    read = read_directions(path)
    assert [(d.name, d.layer, d.vector[0]) for d in read] == [("happy", 1, 1.0), ("happy", 2, 2.0)]
    assert read[0].provenance["model"] == "qwen2"
    assert read[0].activation_norm is None


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"layer.1": np.array([1, np.nan], np.float32)}, "layer 1 holds NaN"),
        ({"layer.4": np.zeros(3, np.float32)}, "layer 4 is zero"),
        ({"layer.1": np.ones(3, np.float32), "layer.2": np.ones(4, np.float32)}, "one model a file"),
        ({"lm_head.weight": np.ones((3, 3), np.float32)}, "lm_head.weight"),
        ({"layer.1": np.ones(3, np.int64)}, "vector of floats"),
        ({"layer.1": np.ones((2, 2, 2), np.float32)}, "vector of floats"),
    ],
)
def test_vectors_that_are_none_are_refused(tmp_path, tensors, said):
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=said):
        read_directions(tmp_path / "bad.safetensors")


def test_what_does_not_fit_the_model_is_refused(tmp_path):
    write_directions(tmp_path / "d.safetensors", stack())
    with pytest.raises(InputError, match=r"8 dimensions and the model 576.*made for tiny"):
        read_directions(tmp_path / "d.safetensors", width=576)
    with pytest.raises(InputError, match="layers 0-4"):
        read_directions(tmp_path / "d.safetensors", layers=5)


@pytest.mark.parametrize("name", ["d.safetensors", "d.gguf"])
def test_damaged_files_are_refused(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InputError, match="no direction file"):
        read_directions(path)
    for content in (b"", b"GGUF\x03\x00\x00\x00", b"\xff" * 64, directions_bytes(stack(), path.suffix)[:-9]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole"):
            read_directions(path)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="'llama', not a controlvector"):
        read_directions(foreign(tmp_path / "model.gguf", {"token_embd.weight": np.ones(4, np.float32)}, "llama"))
    with pytest.raises(InputError, match=r"no control vector of a block"):
        read_directions(foreign(tmp_path / "zero.gguf", {"direction.0": np.ones(4, np.float32)}))
    with pytest.raises(InputError, match="holds no direction"):
        read_directions(foreign(tmp_path / "none.gguf", {"other": np.ones(4, np.float32)}))
    (tmp_path / "d.pt").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"'\.pt'"):
        read_directions(tmp_path / "d.pt")
    with pytest.raises(InputError, match=r"\.pt"):
        write_directions(tmp_path / "e.pt", stack())


def test_damaged_metadata_are_refused(tmp_path):
    save_file({"layer.1": np.ones(3, np.float32)}, tmp_path / "d.safetensors", metadata={"provenance": "{"})
    with pytest.raises(InputError, match="provenance"):
        read_directions(tmp_path / "d.safetensors")
    save_file(
        {"layer.1": np.ones(3, np.float32)},
        tmp_path / "d.safetensors",
        metadata={"activation_norms": json.dumps({"1": "ten"})},
    )
    with pytest.raises(InputError, match="layer 1"):
        read_directions(tmp_path / "d.safetensors")


def test_one_file_holds_one_direction():
    with pytest.raises(InputError, match="names"):
        directions_bytes([*stack(), *stack(name="b")], ".safetensors")
    with pytest.raises(InputError, match="widths"):
        directions_bytes([*stack(layers=(1,)), *stack(layers=(2,), width=9)], ".safetensors")
    with pytest.raises(InputError, match="no direction to write"):
        directions_bytes([], ".safetensors")


def test_half_precision_of_either_kind_is_read(tmp_path):
    """bfloat16 is the upper half of a float32: what it holds comes back exactly."""
    vectors = {f"layer.{n}": (np.arange(1, 9, dtype=np.float32) * (n + 1) / 4) for n in range(3)}
    halves = [(vector.view(np.uint32) >> 16).astype("<u2").tobytes() for vector in vectors.values()]
    places = {name: [16 * i, 16 * i + 16] for i, name in enumerate(vectors)}
    said = {name: {"dtype": "BF16", "shape": [8], "data_offsets": place} for name, place in places.items()}
    header = json.dumps(said).encode()
    header += b" " * (-len(header) % 8)
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"".join(halves))
    save_file({name: vector.astype(np.float16) for name, vector in vectors.items()}, tmp_path / "h.safetensors")
    for name in ("b", "h"):
        found = {d.layer: d.vector for d in read_directions(tmp_path / f"{name}.safetensors")}
        assert sorted(found) == [0, 1, 2]
        for layer, vector in found.items():
            np.testing.assert_array_equal(vector, vectors[f"layer.{layer}"])
