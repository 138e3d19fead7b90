"""Claims about a space around a module of one's own."""

from __future__ import annotations

import gc
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from typer.testing import CliRunner

import nas
from nas.around import OwnSpace, UnreadError, module_of, space_of
from nas.around.space import _disturbed
from nas.cli import app
from nas.export import plain
from nas.grammar import derive, sample
from nas.grammar.count import extreme
from nas.network import Network
from nas.plan import plan, run
from nas.search import search
from nas.supernet import Bank
from nas.supernet.bank_file import begin_bank
from nas.task import Task


def normed(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, **words: Any) -> Any:
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(o, **words)


class Basic(nn.Module):
    def __init__(self, i: int, o: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = normed(i, o, 3, stride)
        self.conv2, self.bn2 = normed(o, o, 3)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(*normed(i, o, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.down is None else self.down(x)
        return self.relu(y)


class Residual(nn.Module):
    """As ResNets are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = normed(3, 16, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Basic(16, 16), Basic(16, 16))
        self.layer2 = nn.Sequential(Basic(16, 32, 2), Basic(32, 32))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.pool(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Gate(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.silu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(gate)


class Inverted(nn.Module):
    def __init__(self, i: int, o: int, kernel: int, stride: int, act: type[nn.Module]):
        super().__init__()
        wide = 4 * i
        self.body = nn.Sequential(
            *normed(i, wide, 1, eps=1e-3),
            act(),
            *normed(wide, wide, kernel, stride, wide, eps=1e-3),
            act(),
            Gate(wide, i),
            *normed(wide, o, 1, eps=1e-3),
        )
        self.skip = stride == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


class Mobile(nn.Module):
    """As MobileNetV3 and EfficientNet are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*normed(3, 16, 3, 2), nn.Hardswish())
        self.blocks = nn.Sequential(
            Inverted(16, 16, 3, 1, nn.ReLU6),
            Inverted(16, 24, 5, 2, nn.Hardswish),
            Inverted(24, 24, 5, 1, nn.Hardswish),
            Inverted(24, 24, 5, 1, nn.Hardswish),
        )
        self.head = nn.Sequential(nn.Conv2d(24, 48, 1), nn.SiLU(), nn.Dropout(0.2))
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head(self.blocks(self.stem(x))).mean((2, 3)))


class Plain(nn.Module):
    """As VGG is, with a view whose batch is read from x."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding="same"),
            nn.LeakyReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 24, 3, 2, 0),
            nn.Mish(),
            nn.Upsample(scale_factor=2),
        )
        self.classifier = nn.Sequential(nn.Linear(24 * 14 * 14, 32), nn.Tanh(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1))


class Joined(nn.Module):
    """As Inception is, with a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.left = nn.Sequential(nn.Conv2d(16, 8, 1), nn.GELU(), nn.Conv2d(8, 16, 3, 1, 1))
        self.right = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU())
        self.grouped = nn.Conv2d(24, 24, 3, 1, 1, groups=4)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.grouped(torch.cat([self.left(x), self.right(x)], 1))
        return self.fc(F.relu(x).mean((2, 3)))


class Attending(nn.Module):
    """Attention with one map for queries, keys and values, as timm writes it."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, features = x.shape
        qkv = self.qkv(x).reshape(batch, positions, 3, self.heads, features // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, positions, features))


class Apart(Attending):
    """The same with a map for each, without biases, a head's rows not together."""

    def __init__(self, features: int, heads: int):
        super().__init__(features, heads)
        del self.qkv
        self.maps = nn.ModuleList(nn.Linear(features, features, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(2, (-1, self.heads)).permute(0, 3, 1, 2) for f in self.maps)
        return self.proj(F.scaled_dot_product_attention(q, k, v).permute(0, 2, 3, 1).flatten(2))


class Torchs(nn.Module):
    """torch's own."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        nn.init.normal_(self.attention.in_proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Transformer(nn.Module):
    def __init__(self, attend: type[nn.Module]):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16, eps=1e-6), nn.LayerNorm(16)
        self.attend = attend(16, 4)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.gamma = nn.Parameter(torch.full((16,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.gamma * self.mlp(self.norm2(x))


class Vision(nn.Module):
    """As ViT is."""

    def __init__(self, attend: type[nn.Module] = Attending, token: bool = True):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 16)) if token else None
        self.places = nn.Parameter(torch.randn(1, 16 + token, 16))
        self.blocks = nn.Sequential(*[Transformer(attend) for _ in range(3)])
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.places))
        return self.fc(x.mean(1) if self.token is None else x[:, 0])


class Next(nn.Module):
    """A block of ConvNeXt, its channels last between."""

    def __init__(self, channels: int):
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 7, 1, 3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.wide(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + self.gamma * y


class ConvNext(nn.Module):
    """As ConvNeXt is, with kernels that are dilated and not square, and norms of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.Sequential(Next(16), Next(16))
        self.shaped = nn.Sequential(
            nn.Conv2d(16, 16, (1, 7), padding=(0, 3)),
            nn.GroupNorm(4, 16),
            nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        )
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shaped(self.blocks(self.stem(x)))
        return self.fc(self.norm((x * torch.sigmoid(x)).mean((2, 3))))


class Endless(nn.Module):
    """What ends in no map of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.last(torch.relu(self.first(x))), 1).flatten(1)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "mobile": Mobile,
    "plain": Plain,
    "joined": Joined,
    "vision": Vision,
    "vision of torch": lambda: Vision(Torchs),
    "vision apart": lambda: Vision(Apart, token=False),
    "convnext": ConvNext,
    "endless": Endless,
}
ADDED = {"convnext": 10, "endless": 10 * 10 + 10}  # by a head that has a bias, or is none of theirs


def made(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MODULES[name]()


@pytest.fixture(scope="module", params=MODULES)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, OwnSpace]:
    module = made(request.param)
    return module, space_of(module, (3, 32, 32))


def test_the_largest_network_is_the_module(
    pair: tuple[nn.Module, OwnSpace], request: pytest.FixtureRequest
) -> None:
    module, space = pair
    network, x = space.network(), torch.randn(5, 3, 32, 32)
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x)["own"], module(x), atol=1e-4, rtol=1e-4)
    own = sum(p.numel() for p in module.parameters())
    assert network.plan.params == own + ADDED.get(request.node.callspec.params["pair"], 0)
    assert space.facts()["architectures"] > 1 and space.difference < 1e-5


def test_every_network_of_it_runs_on_the_bank(pair: tuple[nn.Module, OwnSpace]) -> None:
    _, space = pair
    bank, x = space.bank(), torch.randn(2, 3, 32, 32)
    for seed in range(12):
        derivation = sample(space.grammar, random.Random(seed), input=space.input)
        planned = plan(derivation, heads=[space.task])
        with torch.no_grad():
            logits = run(planned, bank.views(planned), x)["own"]
        assert logits.shape == (2, 10)


def test_its_plain_code_is_the_module(pair: tuple[nn.Module, OwnSpace]) -> None:
    module, space = pair
    model, x = plain(space.network()), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), module.eval()(x), atol=1e-4, rtol=1e-4)


def test_a_residual_network_is_written_as_a_person_would() -> None:
    text = space_of(made("residual"), (3, 32, 32)).text
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(rules) <= 8, text
    words = " ".join(text.split())
    assert (
        "basic(c) = clone(2) [conv(c) batchnorm relu conv(channels) batchnorm; identity]" in words
    )
    assert "basic({8, 16}){1..2} basic2({8, 16, 24, 32}, {8, 16, 24, 32})" in words


class Planted(nn.Module):
    """Of 8 channels between two convolutions 4 are read, here and there."""

    def __init__(self, read: list[int]):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 6, 3, 1, 1)
        self.fc = nn.Linear(6, 4)
        with torch.no_grad():
            self.second.weight[:, [i for i in range(8) if i not in read]] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(F.relu(self.first(x)))
        return self.fc(F.relu(x).mean((2, 3)))


@given(st.sets(st.integers(0, 7), min_size=4, max_size=4))
@settings(max_examples=8, deadline=None)
def test_narrow_networks_have_the_channels_that_are_read(read: set[int]) -> None:
    torch.manual_seed(1)
    module = Planted(sorted(read)).eval()
    space = space_of(module, (3, 8, 8), widths={"first": (0.5, 1)})
    half = extreme(space.grammar, input=space.input, of="params", largest=False)
    planned, bank, x = plan(half, heads=[space.task]), space.bank(), torch.randn(3, 3, 8, 8)
    assert planned.params < plan(space.largest, heads=[space.task]).params
    with torch.no_grad():
        given_ = run(planned, bank.views(planned), x)["own"]
        torch.testing.assert_close(given_, module(x), atol=1e-5, rtol=1e-5)


class Branched(nn.Module):
    """Of two branches of 8 channels each 4 are read, of their concatenation through a norm."""

    def __init__(self, read: list[list[int]]):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 8, 3, 1, 1) for _ in range(2))
        self.norm, self.second = nn.BatchNorm2d(16), nn.Conv2d(16, 6, 3, 1, 1)
        self.fc = nn.Linear(6, 4)
        kept = [8 * branch + i for branch, channels in enumerate(read) for i in channels]
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 2)
            self.second.weight[:, [i for i in range(16) if i not in kept]] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([branch(x) for branch in self.branches], 1))
        return self.fc(F.relu(self.second(F.relu(x))).mean((2, 3)))


@given(*[st.sets(st.integers(0, 7), min_size=4, max_size=4)] * 2)
@settings(max_examples=4, deadline=None)
def test_narrow_networks_have_the_channels_of_each_branch_that_are_read(
    left: set[int], right: set[int]
) -> None:
    torch.manual_seed(1)
    module = Branched([sorted(left), sorted(right)]).eval()
    space = space_of(module, (3, 8, 8), widths={"branches": (0.5, 1)})
    half = extreme(space.grammar, input=space.input, of="params", largest=False)
    planned, x = plan(half, heads=[space.task]), torch.randn(3, 3, 8, 8)
    network, bank = space.network(), space.bank()
    statistics = [
        {
            name: tensors[name][[*range(4), *range(8, 12)]] if step.shapes[0].channels == 16 else v
            for name, v in tensors.items()
            if name in step.operator.statistics
        }
        for step, tensors in zip(network.plan.steps, network.tensors(), strict=True)
    ]
    with torch.no_grad():
        params = [{**v, **s} for v, s in zip(bank.views(planned), statistics, strict=True)]
        logits = run(planned, params, x)["own"]
        torch.testing.assert_close(logits, module(x), atol=1e-5, rtol=1e-5)


@given(st.sets(st.integers(0, 3), min_size=2, max_size=2))
@settings(max_examples=4, deadline=None)
def test_narrow_attention_has_the_heads_that_are_read(read: set[int]) -> None:
    torch.manual_seed(1)
    module = Vision().eval()
    with torch.no_grad():
        for block in module.blocks:
            columns = block.attend.proj.weight.unflatten(1, (4, 4))
            columns[:, [head for head in range(4) if head not in read]] = 0
    space = space_of(module, (3, 32, 32), depth="none", widths={"blocks.0.attend": (0.5, 1)})
    half = extreme(space.grammar, input=space.input, of="params", largest=False)
    planned, bank, x = plan(half, heads=[space.task]), space.bank(), torch.randn(3, 3, 32, 32)
    assert planned.params < plan(space.largest, heads=[space.task]).params
    with torch.no_grad():
        logits = run(planned, bank.views(planned), x)["own"]
        torch.testing.assert_close(logits, module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("attend", "words"),
    [
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), "is_causal"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0), "a scale of its own"),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k.flip(2), v),
            "between it and its maps",
        ),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k.roll(1, 1), v), "between it and its"),
        (
            lambda q, k, v: F.scaled_dot_product_attention(
                q, k.transpose(2, 3).reshape(k.shape), v
            ),
            "views mix",
        ),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v).relu(), "between it and its maps"),
        (lambda q, k, v: (q @ k.mT).softmax(-1) @ v, "unflatten|matmul"),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v[..., :2]).repeat(1, 1, 1, 2),
            "value of",
        ),
        (
            lambda q, k, v: F.scaled_dot_product_attention(
                *(t.flatten(0, 1) for t in (q, k, v))
            ).unflatten(0, (-1, 4)),
            "query, key and value of",
        ),
    ],
)
def test_attention_that_is_another_is_named(attend: Any, words: str) -> None:
    class Own(Attending):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4).unbind(0)
            return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))

    with pytest.raises(UnreadError, match=words):
        space_of(Vision(Own), (3, 32, 32))


def test_what_is_elastic_is_what_was_asked_for() -> None:
    module = made("residual")
    space = space_of(module, (3, 32, 32), widths={"layer2": (0.5, 1)}, depth="none", pin=["layer1"])
    rows = {str(row["modules"]).split(",")[0]: row for row in space.report()}
    assert rows["layer2.0.conv1"]["may be"] == "16"
    assert rows["conv1"]["may be"] == "as it is"  # layer1 adds to it
    assert rows["conv1"]["because"] == "layer1 was to stay"
    assert space.facts()["architectures"] == 2**3
    with pytest.raises(UnreadError, match="no part 'layer9'; it has bn1, conv1"):
        space_of(module, (3, 32, 32), pin=["layer9"])
    with pytest.raises(UnreadError, match="above 0 and at most 1"):
        space_of(module, (3, 32, 32), widths=(0, 1))


def test_kernels_become_smaller_when_asked() -> None:
    assert "depthwise({3, 5}" in space_of(made("mobile"), (3, 32, 32), kernels=True).text


@pytest.mark.parametrize("first", [True, False])
def test_what_writes_in_place_is_read_as_it_was_written(first: bool) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if first:
                x.relu_()
            y = torch.tanh(x)
            x.relu_()
            return self.fc((x + y).mean((2, 3)))

    space, negative = space_of(Twice(), (3, 8, 8)), "[tanh; relu]"
    assert space.difference < 1e-5 and ("[relu; tanh]" in space.text or negative in space.text)


def test_what_was_joined_before_is_joined_once() -> None:
    class Dense(nn.Module):
        """As DenseNet is; a sum begins with 0, and a mean of windows is to so many places."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 1, 1)
            self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, 1, 1) for i in range(3))
            self.fc = nn.Linear(20 * 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            features = [self.stem(x)]
            for layer in self.layers:
                features.append(0 + torch.relu(layer(torch.cat(features, 1))))
            x = F.adaptive_avg_pool2d(torch.cat(features, 1), 2)
            return self.fc(F.adaptive_avg_pool2d(x, (2, 2)).flatten(1))

    space = space_of(Dense(), (3, 8, 8))
    assert space.difference < 1e-5 and "avg_pool(4, stride=4" in space.text
    assert space.text.count("concat") == 3


def test_errors_do_not_hide_where_little_comes_through() -> None:
    """What goes through a deep module as it was begun vanishes, and with it every difference."""
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))]
    module = nn.Sequential(
        nn.Conv2d(3, 8, 1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    for norm in (layer for layer in layers if isinstance(layer, nn.BatchNorm2d)):
        norm.running_var.fill_(1e4)
    probe, x = _disturbed(module, (3, 8, 8)), torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        assert module(x).std(0).max() < 1e-6 and probe(x).std(0).max() > 1e-3
        assert not module.training and float(module[2].running_var[0]) == 1e4


class Gated(nn.Module):
    """A gate that is no usual hard one, for large values alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 4)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.expand(torch.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return self.fc((x * F.hardtanh(gate, 0.0, 1.0)).mean((2, 3)))


def trunk(*layers: nn.Module) -> nn.Sequential:
    """A convolution, layers of its 8 channels, and a head."""
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), *layers, *end)


@pytest.mark.parametrize(
    "module",
    [
        trunk(nn.ELU(inplace=True)),
        trunk(nn.Hardtanh(-1, 2, inplace=True)),
        trunk(nn.AdaptiveAvgPool2d(1)),
        trunk(nn.BatchNorm2d(8, eps=1e-12), nn.BatchNorm2d(8, eps=1.0)),
    ],
    ids=["elu", "hardtanh", "twice pooled", "eps"],
)
def test_what_is_unusual_is_read_as_it_is(module: nn.Module) -> None:
    assert space_of(module, (3, 8, 8)).difference < 1e-5


def test_a_gate_with_arguments_of_its_own_is_no_usual_one() -> None:
    with pytest.raises(UnreadError, match="expand|hardtanh|mul"):
        space_of(Gated(), (3, 8, 8))


def test_nothing_that_is_not_finite_is_the_module() -> None:
    module = trunk(nn.ReLU())
    with torch.no_grad():
        module[0].weight.fill_(float("nan"))
    with pytest.raises(UnreadError, match="not finite"):
        space_of(module, (3, 8, 8))


def test_a_module_is_left_as_it_was() -> None:
    module = trunk(nn.BatchNorm2d(8), nn.BatchNorm2d(8))
    module.train()
    module[1].eval()
    before = [part.training for part in module.modules()]
    mean = module[2].running_mean.clone()
    space_of(module, (3, 8, 8))
    assert [part.training for part in module.modules()] == before
    assert (module[2].running_mean == mean).all()


def test_a_block_without_weights_is_not_left_out() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + F.max_pool2d(x, 3, 1, 1)

    space = space_of(trunk(Sum()), (3, 8, 8))
    assert space.difference < 1e-5 and "{0..1}" not in space.text


def test_a_mean_is_a_point_and_a_vector() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
            self.point, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            point = F.adaptive_avg_pool2d(self.conv(x), 1)
            return self.fc(self.linear(point.flatten(1)) + self.point(point).flatten(1))

    assert space_of(Both(), (3, 8, 8)).difference < 1e-5


class Odd(nn.Module):
    def __init__(self, forward: Any):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(8, 4)
        self.wide, self.flat = nn.Conv2d(8, 8, (1, 3), (1, 2)), nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(1))
        self.done = forward

    def forward(self, x: Tensor) -> Any:
        return self.done(self, x)


def counted(m: Any, x: Tensor) -> Tensor:
    m.count += 1
    return m.fc(m.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda m, x: m.fc(m.wide(m.conv(x)).mean((2, 3))), r"wide: .*kernel \(1, 3\)"),
        (lambda m, x: m.fc(torch.roll(m.conv(x), 1, 1).mean((2, 3))), "roll.*no operator is for"),
        (lambda m, x: (m.conv(x), m.fc(m.conv(x).mean((2, 3)))), "gives 2 results"),
        (lambda m, x: m.conv(x), "put a mean over space behind it|gives .8, 8, 8. for each sample"),
        (lambda m, x: m.fc(m.conv(x).mean((2, 3))) if x.sum() > 0 else x, "cannot be traced"),
        (lambda m, x: m.fc(m.conv(x).reshape(len(x), -1)[:, :8]), "len.x. fixes it"),
        (
            lambda m, x: m.fc(
                F.batch_norm(
                    m.flat(m.conv(x).mean((2, 3))).view(-1, 2, 2, 2), torch.zeros(2), torch.ones(2)
                ).flatten(1)
            ),
            "of .8. it makes .2, 2, 2.",
        ),
        (counted, "changes the module's state"),
        (lambda m, x: m.fc(m.conv(x).mean((2, 3)).softmax(0)), "softmax.*no operator"),
        (lambda m, x: m.fc(m.conv(x).mean((2, 3)) + 1), "a sum with a number"),
        (lambda m, x: m.fc(m.conv(x).mean((1, 2))), "cannot be traced|a mean of .8, 8, 8. over"),
        (lambda m, x: m.fc(F.dropout(m.conv(x)).mean((2, 3))), "dropout that is on"),
        (lambda m, x: m.fc(F.pad(m.conv(x), (0, 0, 0, 0, 4, 4)).mean((2, 3))[:, 4:12]), "pad"),
        (lambda m, x: {"logits": m.fc(m.conv(x).mean((2, 3)))}, "wrap it in a module"),
    ],
)
def test_what_cannot_be_read_is_named(forward: Any, words: str) -> None:
    with pytest.raises(UnreadError, match=words):
        space_of(Odd(forward), (3, 8, 8))
    with pytest.raises(UnreadError, match="cannot be traced with samples of"):
        space_of(made("plain"), (1, 32, 32))


SOURCE = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1),
        nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )


class Evil:
    def __reduce__(self):
        import pathlib
        return pathlib.Path.touch, (pathlib.Path("ran"),)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_file_to_a_search_that_begins_with_its_weights(folder: Path) -> None:
    module = module_of("./mine.py:build", trust_code=True)
    torch.save(module.state_dict(), folder / "w.pt")
    words = ["space", "./mine.py:build", "--input", "1x8x8", "--out", "own.grammar"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code and "--trust-code" in refused.output
    result = CliRunner().invoke(app, [*words, "--weights", "w.pt", "--trust-code"])
    assert result.exit_code == 0, result.output
    again = CliRunner().invoke(app, [*words, "--trust-code"])
    assert again.exit_code and "is there already" in again.output
    text = (folder / "own.toml").read_text() + "steps = 2\nsamples = 64\n"
    (folder / "own.toml").write_text(f"trials = 4\nobjectives = ['accuracy', 'flops']\n{text}")
    words = ["search", "--config", "own.toml", "--task", "digits", "--out", "run", "--trust-code"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "slots begin with weights of" in result.output


def test_a_head_goes_to_the_task_that_has_as_many_classes(folder: Path) -> None:
    space = space_of(module_of("./mine.py:build", trust_code=True), (1, 8, 8), name="own")
    space.save(folder / "own.grammar")
    digits = Task.load("digits")
    for task, count in ((digits, 10), (Task.load("scenes-segment"), 0)):
        grammar = nas.Grammar.load("./own.grammar", trust_code=True)
        if not count:
            continue
        bank = Bank.of([plan(extreme(grammar, input=(1, 8, 8), of="params"), heads=[task])])
        said = begin_bank(bank, folder / "own.safetensors")
        assert said.startswith(f"{len(bank.tensors)} of {len(bank.tensors)} slots")
        head = next(key for key in bank.tensors if key.endswith("weight") and "head/" in key)
        weight = space.head[-1].tensors["weight"].tensor
        assert bank.tensors[head].shape == weight.shape
        assert sorted(bank.tensors[head].flatten().tolist()) == sorted(weight.flatten().tolist())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda m: {"0.weight": m["0.weight"]}, "it lacks 0.bias"),
        (lambda m: m | {"more": torch.ones(1)}, "has beside them more"),
        (lambda m: m | {"0.bias": torch.ones(3)}, "in other sizes 0.bias"),
        (lambda m: torch.ones(3), "holds a Tensor"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, state: Any, words: str) -> None:
    module = module_of("./mine.py:build", trust_code=True)
    torch.save(state(dict(module.state_dict())), folder / "w.pt")
    with pytest.raises(UnreadError, match=words):
        module_of("./mine.py:build", folder / "w.pt", trust_code=True)


@pytest.mark.parametrize("state", [{"0.weight": 1}, {0: 1}, {0: 1, "a": 2}])
def test_a_file_of_something_else_is_no_weights(folder: Path, state: Any) -> None:
    torch.save(state, folder / "w.pt")
    with pytest.raises(UnreadError, match="more than tensors by name"):
        module_of("./mine.py:build", folder / "w.pt", trust_code=True)
    (folder / "w.pt").write_text("hello")
    with pytest.raises(UnreadError, match=r"holds (no|more than) weights"):
        module_of("./mine.py:build", folder / "w.pt", trust_code=True)


def test_a_space_is_whole_or_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(module_of("./mine.py:build", trust_code=True), (1, 8, 8))
    with pytest.raises(UnreadError, match="in a folder that there is"):
        space.save(folder / "none" / "own.grammar")

    def full(*given: Any, **words: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr("nas.around.space.write", full)
        space.save(folder / "own.grammar")
    assert sorted(p.name for p in folder.iterdir()) == ["mine.py"]
    space.save(folder / "own.grammar")
    monkeypatch.chdir("/")
    settings_ = tomllib.loads((folder / "own.toml").read_text())
    assert nas.Grammar.load(settings_["space"], trust_code=True).finite
    assert Path(settings_["supernet"]["weights"]).exists()


def test_a_file_of_weights_runs_nothing(folder: Path) -> None:
    from nas.user_code import user_attribute

    torch.save({"state_dict": user_attribute("./mine.py:Evil")()}, folder / "w.pt")
    with pytest.raises(UnreadError, match="holds more than weights"):
        module_of("./mine.py:build", folder / "w.pt", trust_code=True)
    assert not (folder / "ran").exists()


def test_it_is_searched_from_python_too(tmp_path: Path) -> None:
    module = module_of(f"{write_source(tmp_path)}:build", trust_code=True)
    space = nas.space_of(module, (1, 8, 8))
    supernet = {"steps": 2, "samples": 32, "batch": 16}
    run_ = search(
        space.grammar,
        ["digits"],
        out=tmp_path / "run",
        trials=2,
        supernet=supernet,
        trust_code=True,
    )
    assert len(run_.trials) == 2
    del space
    gc.collect()
    text = (tmp_path / "run" / "space.grammar").read_text()
    assert nas.Grammar.parse(text, name="again", trust_code=True).hash == run_.grammar.hash


def write_source(folder: Path) -> Path:
    (folder / "mine.py").write_text(SOURCE)
    return folder / "mine.py"


def test_widths_that_are_chosen_apart_stay_apart() -> None:
    space = space_of(made("residual"), (3, 32, 32))
    narrow = derive(space.grammar, lambda site, options: 0, input=space.input)
    network = Network(narrow, heads=[space.task])
    assert network(torch.randn(2, 3, 32, 32))["own"].shape == (2, 10)
