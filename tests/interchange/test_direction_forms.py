"""Directions in the forms of other tools: what torch and safetensors read and write, and rows at their layers."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save_file

from backend.__main__ import main
from backend.interchange.direction_forms import FORMS, form_bytes, read_form
from backend.records import Direction, InputError
from backend.study.vectors import read_directions, write_directions

WIDTH = 6


def stack(*layers: int) -> list[Direction]:
    draws = np.random.default_rng(0)
    return [Direction("evil", layer, draws.normal(size=WIDTH).astype(np.float32)) for layer in layers]


def suffix(form: str) -> str:
    return ".safetensors" if form == "saklas" else ".pt"


@pytest.mark.parametrize("form", FORMS)
def test_out_and_in_again(tmp_path, form):
    path = tmp_path / f"evil{suffix(form)}"
    path.write_bytes(form_bytes(stack(0, 2, 5), form, layers=8))
    again = read_form(path, form)
    assert [(each.name, each.layer) for each in again] == [("evil", 0), ("evil", 2), ("evil", 5)]
    for one, other in zip(stack(0, 2, 5), again, strict=True):
        assert np.array_equal(one.vector, other.vector)


def test_torch_reads_persona_vectors_of_ours_with_the_embeddings_first(tmp_path):
    path = tmp_path / "evil.pt"
    path.write_bytes(form_bytes(stack(1), "persona-vectors", layers=4))
    tensor = torch.load(path, weights_only=True)
    assert tensor.shape == (5, WIDTH)
    assert torch.equal(tensor[2], torch.from_numpy(stack(1)[0].vector))
    assert tensor.norm(dim=1).count_nonzero() == 1


def test_torch_reads_hotwires_of_ours_a_row_a_block(tmp_path):
    path = tmp_path / "evil.pt"
    path.write_bytes(form_bytes(stack(1), "hotwire", layers=4))
    tensor = torch.load(path, weights_only=True)
    assert tensor.shape == (4, WIDTH)
    assert torch.equal(tensor[1], torch.from_numpy(stack(1)[0].vector))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_what_torch_saves_as_persona_vectors_do_is_read_a_row_later(tmp_path, kind):
    """generate_vec.py stacks hidden_states, the embeddings first: row L is the output of block L - 1."""
    path = tmp_path / "evil_response_avg_diff.pt"
    rows = torch.arange(4 * WIDTH, dtype=kind).reshape(4, WIDTH) + 1
    torch.save(rows, path)
    found = read_form(path, "persona-vectors")
    assert [each.layer for each in found] == [0, 1, 2]
    assert np.array_equal(found[0].vector, rows[1].float().numpy())
    assert [each.layer for each in read_form(path, "hotwire")] == [0, 1, 2, 3]


def test_saklas_files_are_read_wherever_directions_are(tmp_path):
    path = tmp_path / "warm.safetensors"
    save_file({"layer_3": np.ones(WIDTH, np.float32), "layer_10": np.full(WIDTH, 2, np.float32)}, path)
    assert [(each.name, each.layer) for each in read_directions(path)] == [("warm", 3), ("warm", 10)]
    assert set(load(form_bytes(read_directions(path), "saklas"))) == {"layer_3", "layer_10"}


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    torch.save(Evil(), path)
    with pytest.raises(InputError):
        read_form(path, "hotwire")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (torch.ones(3), "a row a layer"),
        ({"a": torch.ones(2, 2)}, "a row a layer"),
        (torch.ones(2, 3, dtype=torch.int64), "tensor of floats"),
        (torch.zeros(3, 4), "rows are zero"),
        (torch.ones(2000, 2), "so many layers"),
        (torch.full((2, 3), float("nan")), "NaN"),
    ],
)
def test_what_is_no_direction_is_refused(tmp_path, held, why):
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(InputError, match=why):
        read_form(tmp_path / "a.pt", "hotwire")


@pytest.mark.parametrize("form", FORMS)
def test_a_subspace_and_too_few_layers_are_refused(form):
    with pytest.raises(InputError, match="subspace"):
        form_bytes([*stack(1), *stack(1)], form)
    if form != "saklas":
        with pytest.raises(InputError, match="layer 5: the model has 0-3"):
            form_bytes(stack(5), form, layers=4)


def test_the_command_imports_and_exports_forms(tmp_path, capsys):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text('{"title": "t", "base": "m"}')
    given, out = tmp_path / "evil.pt", tmp_path / "out.pt"
    torch.save(torch.arange(3 * WIDTH, dtype=torch.float32).reshape(3, WIDTH), given)
    where = ["--folder", str(folder)]
    assert main(["directions", "import", str(given), *where]) == 2
    assert "--form" in capsys.readouterr().err
    assert main(["directions", "import", str(given), "--form", "persona-vectors", "--name", "bad", *where]) == 0
    assert [each.layer for each in read_directions(folder / "directions/bad.safetensors")] == [0, 1]
    export = ["directions", "export", str(out), "--name", "bad", *where]
    assert main([*export, "--form", "persona-vectors"]) == 0
    assert torch.equal(torch.load(out, weights_only=True)[1:], torch.load(given, weights_only=True)[1:])
    assert main([*export, "--form", "saklas"]) == 2
    assert ".safetensors" in capsys.readouterr().err


def test_a_file_of_the_other_form_is_refused_where_the_model_is_known(tmp_path, capsys):
    """Read with the wrong form every row would come to the layer beside its own."""
    model, folder = tmp_path / "model", tmp_path / "study"
    model.mkdir()
    folder.mkdir()
    (model / "config.json").write_text('{"num_hidden_layers": 4}')
    (folder / "study.json").write_text(f'{{"title": "t", "base": "{model}"}}')
    rows, where = torch.arange(5 * WIDTH, dtype=torch.float32).reshape(5, WIDTH) + 1, ["--folder", str(folder)]
    persona, hotwire = tmp_path / "persona.pt", tmp_path / "hotwire.pt"
    torch.save(rows, persona)
    torch.save(rows[1:].clone(), hotwire)
    for path, wrong in ((persona, "hotwire"), (hotwire, "persona-vectors")):
        assert main(["directions", "import", str(path), "--form", wrong, *where]) == 2
        assert "is it another form" in capsys.readouterr().err
    for path, form in ((persona, "persona-vectors"), (hotwire, "hotwire")):
        assert main(["directions", "import", str(path), "--form", form, *where]) == 0
        assert ("row 0, the embeddings, is left out" in capsys.readouterr().out) == (path == persona)
        kept = read_directions(folder / f"directions/{path.stem}.safetensors")
        assert np.array_equal(kept[3].vector, rows[4].numpy())


def test_what_is_exported_for_a_known_model_is_imported_again(tmp_path):
    model, folder, out = tmp_path / "model", tmp_path / "study", tmp_path / "again.pt"
    model.mkdir()
    (folder / "directions").mkdir(parents=True)
    (model / "config.json").write_text('{"num_hidden_layers": 4}')
    (folder / "study.json").write_text(f'{{"title": "t", "base": "{model}"}}')
    write_directions(folder / "directions/evil.safetensors", stack(1))
    where = ["--form", "hotwire", "--folder", str(folder)]
    assert main(["directions", "export", str(out), "--name", "evil", *where]) == 0
    assert main(["directions", "import", str(out), *where]) == 0
    assert [each.layer for each in read_directions(folder / "directions/again.safetensors")] == [1]
