"""Claims about the folder: what is saved reads back, and what is broken is refused."""

import json
import random
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.export import ExportError, Recipe, facts, load, note, save, save_weights
from nas.export.plain_model import difference, plain, weights_of
from nas.files import FolderError
from nas.grammar import Grammar, GrammarError, sample
from nas.network import Network
from nas.task import Task

SCENES = ("scenes-classify", "scenes-segment")


def made(*specs: str, space: str = "mobile") -> tuple[Network, list[Task]]:
    tasks = [Task.load(spec) for spec in specs]
    input = tasks[0].input if tasks else (1, 32, 32)
    derivation = sample(Grammar.load(space), random.Random(1), input=input)
    network = Network(derivation, heads=tasks or None, seed=3)
    for name, value in network.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return network.eval(), tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network, tasks = made("digits")
    save(network, tmp_path / "net", tasks=tasks, recipe=Recipe(), source={"run": "first"})
    return tmp_path / "net"


@pytest.mark.parametrize(
    ("specs", "space"), [(SCENES, "mobile"), (("digits",), "mobile"), ((), "fbnetv5-small")]
)
def test_folder_reads_back_equal(specs, space, tmp_path) -> None:
    network, tasks = made(*specs, space=space)
    recipe = Recipe(epochs=3, lr=0.05, seed=7)
    source = {"run": "first", "trial": "3f9ac21b", "measurements": [{"name": "flops", "value": 1}]}
    save(network, tmp_path / "net", tasks=tasks, recipe=recipe, source=source)
    assert {path.name for path in (tmp_path / "net").iterdir()} == {
        "model.py",
        "weights.safetensors",
        "architecture.json",
        "card.md",
        "recipe.toml",
    }
    back, their_tasks, their_recipe, their_source = load(tmp_path / "net")
    assert back.derivation == network.derivation
    assert (their_tasks, their_recipe, their_source) == (tasks, recipe, source)
    assert not back.training
    assert list(back.state_dict()) == list(network.state_dict())
    x = torch.randn(2, *network.plan.input.dims)
    with torch.no_grad():
        assert difference(back(x), network(x)) == 0.0
    assert [len(task.splits().valid) for task in their_tasks] == [
        len(task.splits().valid) for task in tasks
    ]


def test_a_network_at_another_input_than_its_derivations_reads_back(tmp_path) -> None:
    task = Task.load("digits")
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=(1, 32, 32))
    network = Network(derivation, task.input, heads=[task])
    save(network, tmp_path / "net", tasks=[task], recipe=Recipe(), source={})
    assert load(tmp_path / "net")[0].plan.input.dims == (1, 8, 8)


def test_folder_loads_where_the_data_is_not(tmp_path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(20, 8, 8)), y=np.arange(20) % 2)
    task = Task.load(f"mine={tmp_path / 'data.npz'}")
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=task.input)
    network = Network(derivation, heads=[task])
    save(network, tmp_path / "net", tasks=[task], recipe=Recipe(), source={})
    assert len(load(tmp_path / "net")[1][0].splits().train) == len(task.splits().train)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(30, 8, 8)), y=np.arange(30) % 3)
    _, (again,), _, _ = load(tmp_path / "net")
    with pytest.raises(ExportError, match="now has the classes"):
        again.splits()
    (tmp_path / "data.npz").unlink()
    _, (again,), _, _ = load(tmp_path / "net")
    assert again == task


def test_a_folder_that_holds_something_is_not_written_to(folder, tmp_path) -> None:
    network, tasks = made("digits")
    before = (folder / "weights.safetensors").read_bytes()
    with pytest.raises(FolderError, match="already holds files: give another folder"):
        save(network, folder, tasks=tasks, recipe=Recipe(), source={})
    assert (folder / "weights.safetensors").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FolderError, match="is a file"):
        save(network, tmp_path / "file", tasks=tasks, recipe=Recipe(), source={})
    with pytest.raises(FolderError, match="holds files"):
        save(network, tmp_path, tasks=tasks, recipe=Recipe(), source={})
    (tmp_path / "empty").mkdir()
    save(network, tmp_path / "empty", tasks=tasks, recipe=Recipe(), source={})


def test_tasks_that_are_not_the_networks_are_refused(tmp_path) -> None:
    network, tasks = made(*SCENES)
    with pytest.raises(ExportError, match="give the tasks whose heads it has"):
        save(network, tmp_path / "net", tasks=tasks[::-1], recipe=Recipe(), source={})
    assert not (tmp_path / "net").exists()


def test_weights_of_another_shape_are_refused(folder) -> None:
    weights = load_file(folder / "weights.safetensors")
    first = next(name for name in weights if name.endswith("conv.weight"))

    def refused(changed: dict[str, torch.Tensor], reason: str) -> None:
        save_file(changed, folder / "weights.safetensors")
        with pytest.raises(ExportError, match=reason):
            load(folder)

    refused({**weights, first: torch.zeros(3, 1, 3, 3)}, rf"{first} is \(3, 1, 3, 3\), .* has \(")
    refused({**weights, "other": torch.zeros(1)}, r"other is \(1,\), .* has none")
    refused({k: v for k, v in weights.items() if k != first}, f"{first} is missing")
    refused({}, "and [0-9]+ more")
    (folder / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(ExportError, match="save the weights again"):
        load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ExportError, match="No such file"):
        load(folder)


def test_weights_saved_by_the_plain_model_are_read(folder) -> None:
    network, *_ = load(folder)
    save_file(plain(network).state_dict(), folder / "weights.safetensors")
    assert load(folder)[0].state_dict().keys() == network.state_dict().keys()


def test_a_folder_whose_model_has_no_classes_is_read_and_keeps_its_names(folder) -> None:
    """As folders of before were: every tensor by its network's own name."""
    network, *_ = load(folder)
    save_file(weights_of(network), folder / "weights.safetensors")
    back, *_ = load(folder)
    assert all(torch.equal(back.state_dict()[n], v) for n, v in network.state_dict().items())
    save_weights(back, folder)
    assert load_file(folder / "weights.safetensors").keys() == network.state_dict().keys()


def test_weights_have_the_names_of_model_py(folder) -> None:
    network, *_ = load(folder)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1.0)
    save_weights(network, folder)
    model = plain(network)
    saved = load_file(folder / "weights.safetensors")
    assert model.load_state_dict(saved, strict=False).unexpected_keys == []
    assert any(name.count(".") > 1 for name in saved)


def test_weights_are_replaced(folder) -> None:
    network, *_ = load(folder)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1.0)
    save_weights(network, folder)
    back = load(folder)[0].state_dict()
    assert all(torch.equal(back[name], value) for name, value in network.state_dict().items())


def test_facts_are_noted_beside_the_source(folder) -> None:
    note(folder, before={"digits": 0.9})
    note(folder, after={"digits": float("nan")}, before={"digits": 0.8})
    source = load(folder)[3]
    assert source == {"run": "first", "before": {"digits": 0.8}, "after": {"digits": "nan"}}
    assert facts(folder) == source
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "format None is not 1"),
        ('{"format": 2}', "format 2 is not 1"),
        ('{"format": 1}', "name is missing or wrong"),
        ('{"format": 1, "grammar": []}', "is missing or wrong"),
    ],
)
def test_a_broken_architecture_is_refused(text, reason, folder) -> None:
    (folder / "architecture.json").write_text(text)
    with pytest.raises(ExportError, match=reason):
        load(folder)


def test_a_changed_grammar_is_refused(folder) -> None:
    record = json.loads((folder / "architecture.json").read_text())
    record["grammar"]["text"] = record["grammar"]["text"].replace("{3, 5}", "{3, 5, 7}")
    (folder / "architecture.json").write_text(json.dumps(record))
    with pytest.raises(GrammarError, match="read it with the grammar that made it"):
        load(folder)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("seed = 2.5", "seed = 2.5 must be a whole number"),
        ("momentum = 1.5", "momentum = 1.5 must be from 0 to 1"),
        ("lr = 'fast'", "lr = 'fast' must be a number"),
        ("batch = 0", "batch = 0 must be at least 1"),
        ("learning_rate = 1", "learning_rate is no value of a recipe"),
        ("lr = nan", "lr = nan must be at least 0"),
        ("epochs = inf", "epochs = inf must be at least 0"),
        ("=", "Invalid statement"),
    ],
)
def test_a_faulty_recipe_is_refused_by_name(line, reason, folder) -> None:
    (folder / "recipe.toml").write_text(line)
    with pytest.raises(ExportError, match=reason) as found:
        load(folder)
    assert "recipe.toml" in str(found.value)


def test_every_value_of_the_recipe_is_explained(folder) -> None:
    lines = (folder / "recipe.toml").read_text().splitlines()
    values = [i for i, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    assert len(values) == len(fields(Recipe))
    assert all(lines[i - 1].startswith("# ") for i in values)


def test_code_of_the_users_own_is_loaded_only_where_it_is_trusted(tmp_path) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return x * 2\n")
    (tmp_path / "own.grammar").write_text("use ./ops.py:twice as twice\nnet = conv(4) twice\n")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    derivation = sample(grammar, random.Random(0), input=(1, 8, 8))
    save(Network(derivation), tmp_path / "net", tasks=[], recipe=Recipe(), source={})
    with pytest.raises(GrammarError, match="trust"):
        load(tmp_path / "net")
    assert load(tmp_path / "net", trust_code=True)[0].derivation == derivation


def test_a_model_that_would_compute_something_else_is_not_saved(tmp_path, monkeypatch) -> None:
    from nas.op import Code
    from nas.op.activation import ACTIVATIONS

    network, tasks = made("digits")
    monkeypatch.setattr(type(ACTIVATIONS["hardswish"]), "code", lambda *_: Code(None, "{0} * 2"))
    with pytest.raises(ExportError, match="would differ from the network"):
        save(network, tmp_path / "net", tasks=tasks, recipe=Recipe(), source={})
    assert not (tmp_path / "net").exists()
