"""Checkpoints of MISSFormer in the layout of its authors' code, against their function written out here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from usbench.baselines.missformer import METHOD, build
from usbench.baselines.missformer_published import token_order
from usbench.errors import UsbenchError

WIDTHS, HEADS, RATIOS = (64, 128, 320, 512), (1, 2, 5, 8), (8, 4, 2, 1)
State = dict[str, Tensor]


class Layout:
    """Tensors under the names and in the shapes of the authors' network, none of them 0 or 1."""

    def __init__(self, classes: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(5)
        for i, width in enumerate(WIDTHS):
            size = 7 if i == 0 else 3
            self.put(f"backbone.patch_embed{i + 1}.proj", width, (3, *WIDTHS)[i], size, size)
            self.norm(f"backbone.patch_embed{i + 1}.norm", width)
            for block in range(2):
                self.block(f"backbone.block{i + 1}.{block}", i)
            self.norm(f"backbone.norm{i + 1}", width)
        for layer in range(4):
            at = f"bridge.bridge_layer{layer + 1}"
            self.attention(f"{at}.attn", 64)
            for scale in range(3):
                width, ratio = WIDTHS[scale], RATIOS[scale]
                self.put(f"{at}.attn.scale_reduce.sr{scale}", width, width, ratio, ratio)
            self.norm(f"{at}.attn.scale_reduce.norm", 64)
            for name in ("norm1", "norm2"):
                self.norm(f"{at}.{name}", 64)
            for scale, width in enumerate(WIDTHS):
                self.feed_forward(f"{at}.mixffn{scale + 1}", width)
        for level, joined in ((3, 1024), (2, 576), (1, 288), (0, 128)):
            at, width = f"decoder_{level}", WIDTHS[level]
            self.put(f"{at}.concat_linear", width, joined)
            wider, out = (16 * width, width) if level == 0 else (2 * width, width // 2)
            self.state[f"{at}.layer_up.expand.weight"] = self.draw(wider, width)
            self.norm(f"{at}.layer_up.norm", out)
            for block in (1, 2):
                self.block(f"{at}.layer_former_{block}", level)
        self.put("decoder_0.last_layer", classes, 64, 1, 1)

    def draw(self, *shape: int) -> Tensor:
        scale = (shape[1:] and torch.tensor(shape[1:]).prod().item() ** -0.5) or 0.3
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64) * scale

    def put(self, name: str, *shape: int) -> None:
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = self.draw(*shape), self.draw(shape[0])

    def norm(self, name: str, width: int) -> None:
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = self.draw(width) + 1, self.draw(width)

    def attention(self, name: str, width: int) -> None:
        for part, out in (("q", width), ("kv", 2 * width), ("proj", width)):
            self.put(f"{name}.{part}", out, width)

    def feed_forward(self, name: str, width: int) -> None:
        self.put(f"{name}.fc1", 4 * width, width)
        self.put(f"{name}.dwconv.dwconv", 4 * width, 1, 3, 3)
        self.put(f"{name}.fc2", width, 4 * width)
        for number in (1, 2, 3):
            self.norm(f"{name}.norm{number}", 4 * width)

    def block(self, name: str, level: int) -> None:
        width, ratio = WIDTHS[level], RATIOS[level]
        self.norm(f"{name}.norm1", width)
        self.attention(f"{name}.attn", width)
        if ratio > 1:
            self.put(f"{name}.attn.sr", width, width, ratio, ratio)
            self.norm(f"{name}.attn.norm", width)
        self.norm(f"{name}.norm2", width)
        self.feed_forward(f"{name}.mlp", width)


class Published:
    """The authors' function at 224 pixels, of tokens [1, N, C] and their names."""

    def __init__(self, state: State) -> None:
        self.state = state

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", torch.zeros(()))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(
            x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )

    def conv(self, name: str, image: Tensor, **words: int) -> Tensor:
        return functional.conv2d(image, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **words)

    def attend(self, name: str, x: Tensor, source: Tensor, heads: int) -> Tensor:
        width = x.shape[-1]
        query, both = self.linear(f"{name}.q", x)[0], self.linear(f"{name}.kv", source)[0]
        answers = []
        for head in range(heads):
            at = slice(head * width // heads, (head + 1) * width // heads)
            scores = query[:, at] @ both[:, :width][:, at].T / (width // heads) ** 0.5
            answers.append(scores.softmax(-1) @ both[:, width:][:, at])
        return self.linear(f"{name}.proj", torch.cat(answers, dim=-1))[None]

    def feed_forward(self, name: str, x: Tensor, side: int) -> Tensor:
        hidden = self.linear(f"{name}.fc1", x)
        image = hidden.transpose(1, 2).reshape(1, -1, side, side)
        image = self.conv(f"{name}.dwconv.dwconv", image, padding=1, groups=image.shape[1])
        hidden = functional.gelu(self.norm(f"{name}.norm1", image.flatten(2).transpose(1, 2) + hidden))
        return self.linear(f"{name}.fc2", hidden)

    def block(self, name: str, x: Tensor, side: int, level: int) -> Tensor:
        source = normed = self.norm(f"{name}.norm1", x)
        if RATIOS[level] > 1:
            image = normed.transpose(1, 2).reshape(1, -1, side, side)
            reduced = self.conv(f"{name}.attn.sr", image, stride=RATIOS[level])
            source = self.norm(f"{name}.attn.norm", reduced.flatten(2).transpose(1, 2))
        x = x + self.attend(f"{name}.attn", normed, source, HEADS[level])
        return x + self.feed_forward(f"{name}.mlp", self.norm(f"{name}.norm2", x), side)

    def bridge(self, name: str, x: Tensor) -> Tensor:
        normed = self.norm(f"{name}.norm1", x)
        ends, sides = (0, 3136, 4704, 5684, 6076), (56, 28, 14, 7)
        reduced = []
        for i, width in enumerate(WIDTHS[:3]):
            image = normed[:, ends[i] : ends[i + 1]].reshape(1, sides[i], sides[i], width)
            small = self.conv(f"{name}.attn.scale_reduce.sr{i}", image.permute(0, 3, 1, 2), stride=RATIOS[i])
            # Channels first: f neighbouring channels, place by place, are one of 64 rows.
            reduced.append(small.reshape(1, 64, -1).transpose(1, 2))
        source = self.norm(f"{name}.attn.scale_reduce.norm", torch.cat([*reduced, normed[:, 5684:]], dim=1))
        x = x + self.attend(f"{name}.attn", normed, source, heads=1)
        normed = self.norm(f"{name}.norm2", x)
        parts = [
            self.feed_forward(
                f"{name}.mixffn{i + 1}", normed[:, ends[i] : ends[i + 1]].reshape(1, -1, width), sides[i]
            ).reshape(1, -1, 64)
            for i, width in enumerate(WIDTHS)
        ]
        return x + torch.cat(parts, dim=1)

    def enlarge(self, name: str, x: Tensor, side: int, factor: int) -> Tensor:
        wide = self.linear(f"{name}.expand", x)[0]
        out = wide.shape[-1] // factor**2
        image = wide.reshape(side, side, factor, factor, out).transpose(1, 2)
        return self.norm(f"{name}.norm", image.reshape(1, (factor * side) ** 2, out))

    def __call__(self, image: Tensor) -> Tensor:
        """A grey image [1, 1, 224, 224] -> logits [1, K, 224, 224]."""
        image = image.repeat(1, 3, 1, 1)
        maps = []
        for i in range(4):
            at = f"backbone.patch_embed{i + 1}"
            image = self.conv(f"{at}.proj", image, stride=4 if i == 0 else 2, padding=3 if i == 0 else 1)
            side = image.shape[-1]
            x = self.norm(f"{at}.norm", image.flatten(2).transpose(1, 2))
            for block in range(2):
                x = self.block(f"backbone.block{i + 1}.{block}", x, side, i)
            x = self.norm(f"backbone.norm{i + 1}", x)
            maps.append(x)
            image = x.transpose(1, 2).reshape(1, -1, side, side)
        x = torch.cat([one.reshape(1, -1, 64) for one in maps], dim=1)
        for layer in range(4):
            x = self.bridge(f"bridge.bridge_layer{layer + 1}", x)
        skips = [
            part.reshape(1, -1, c)
            for part, c in zip(x.split([3136, 1568, 980, 392], dim=1), WIDTHS, strict=True)
        ]
        up = self.enlarge("decoder_3.layer_up", skips[3], 7, 2)
        for level, side in ((2, 14), (1, 28), (0, 56)):
            at = f"decoder_{level}"
            up = self.linear(f"{at}.concat_linear", torch.cat([up, skips[level]], dim=-1))
            for block in (1, 2):
                up = self.block(f"{at}.layer_former_{block}", up, side, level)
            up = self.enlarge(f"{at}.layer_up", up, side, 4 if level == 0 else 2)
        return self.conv("decoder_0.last_layer", up.transpose(1, 2).reshape(1, 64, 224, 224))


@pytest.fixture(scope="module")
def state() -> State:
    return Layout(classes=2).state


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "epoch_399.pth"
    torch.save({f"module.{name}": value.float() for name, value in state.items()}, path)
    return path


def test_layout_is_of_the_published_size(state: State) -> None:
    assert sum(value.numel() for value in state.values()) == 42_462_082


def test_order_of_the_bridges_channels() -> None:
    # Theirs f * k + h is ours 64 * h + k.
    ours = token_order(torch.arange(320))
    assert [int(ours[64 * h + k]) for h in range(5) for k in (0, 1, 63)] == [
        5 * k + h for h in range(5) for k in (0, 1, 63)
    ]


@pytest.mark.slow
def test_a_published_checkpoint_has_its_published_function(state: State, file: Path) -> None:
    state = {name: value.float().double() for name, value in state.items()}
    image = torch.randn(1, 1, 224, 224, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    network = build(3, 2, pretrained=str(file)).double().eval()
    with torch.no_grad():
        ours, theirs = network(image.repeat(1, 3, 1, 1)), Published(state)(image)
        assert ours.shape == (1, 2, 224, 224)
        assert torch.allclose(ours, theirs, atol=1e-9, rtol=0)
        # The order of the channels matters: without it the masks are others.
        for layer in network.decoder.bridge:
            for reduce in list(layer.attention.reduce)[1:]:
                reduce.weight.copy_(reduce.weight.unflatten(0, (-1, 64)).transpose(0, 1).flatten(0, 1))
        assert (network(image.repeat(1, 3, 1, 1)) - theirs).abs().max() > 1e-3


def test_bridge_layer_has_the_published_function(state: State, file: Path) -> None:
    tokens = torch.randn(1, 6076, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = build(3, 2, bridge_layers=1, pretrained=str(file)).double()
    rounded = {name: value.float().double() for name, value in state.items()}
    with torch.no_grad():
        ours = network.decoder.bridge[0](tokens, [(56, 56), (28, 28), (14, 14), (7, 7)])
        theirs = Published(rounded).bridge("bridge.bridge_layer1", tokens)
    assert torch.allclose(ours, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_and_classes(state: State, file: Path, channels: int) -> None:
    torch.manual_seed(3)
    network = build(channels, 5, bridge_layers=1, pretrained=str(file))
    theirs = state["backbone.patch_embed1.proj.weight"].float()
    stem = network.encoder.stages[0].embed.weight
    grey = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        answer = functional.conv2d(grey.expand(-1, channels, -1, -1), stem)
        if channels in (1, 3):
            assert torch.allclose(answer, functional.conv2d(grey.expand(-1, 3, -1, -1), theirs), atol=1e-5)
    torch.manual_seed(3)
    # Another number of classes: the head starts anew, all else is theirs.
    fresh = build(channels, 5, bridge_layers=1)
    assert torch.equal(network.decoder.head.weight, fresh.decoder.head.weight)
    own = state["decoder_1.concat_linear.weight"].float()
    assert torch.equal(network.decoder.steps[1].join.weight, own)


def test_wrong_checkpoints_are_named(state: State, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    small = {name: value.half() for name, value in state.items()}

    def saved(**changes: Tensor | None) -> str:
        other: dict[str, Tensor | None] = {**small, **{k.replace("__", "."): v for k, v in changes.items()}}
        torch.save({name: value for name, value in other.items() if value is not None}, path)
        return str(path)

    with pytest.raises(UsbenchError, match=r"wrong\.pth: nothing in it fills 'encoder\.stages\.0\.embed\.b"):
        build(1, 2, pretrained=saved(backbone__patch_embed1__proj__bias=None))
    with pytest.raises(UsbenchError, match=r"has no tensor 'decoder_0\.second_head\.weight'"):
        build(1, 2, pretrained=saved(decoder_0__second_head__weight=torch.zeros(1)))
    with pytest.raises(UsbenchError, match=r"'decoder\.last\.norm\.bias' is \(3,\), not \(64,\)"):
        build(1, 2, pretrained=saved(decoder_0__layer_up__norm__bias=torch.zeros(3)))
    with pytest.raises(UsbenchError, match=r"fewer bridge layers"):
        build(1, 2, bridge_layers=5, pretrained=saved())
    assert METHOD.weights({**METHOD.settings, "pretrained": str(path)}).startswith("wrong.pth (")
