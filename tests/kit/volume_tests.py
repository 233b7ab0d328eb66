"""What every built-in network of volumes must pass: inherit `VolumeTests` and name the method."""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from usbench.checks.subject import mock_task
from usbench.config import Config
from usbench.contracts.method import EncoderDecoder, Method
from usbench.contracts.settings import VolumeSettings
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared

Shape = tuple[int, int, int]


def volume_config(method: Method, shape: Shape, preset: str = "smoke") -> Config:
    """The configuration for volumes of one shape (D, H, W), with the method's settings of a preset."""
    own = {key: value for key, value in method.presets[preset].items() if "." not in key}
    settings = {**method.settings, **own}
    return Config(preset, method=settings, volume=VolumeSettings(mode="whole", shape=shape))


def volumes(modalities: int, shape: Shape, batch: int = 1, seed: int = 1) -> Tensor:
    """A batch [B, M, D, H, W] of noise, always the same."""
    return torch.randn(batch, modalities, *shape, generator=torch.Generator().manual_seed(seed))


def two_boxes(modalities: int, shape: Shape) -> tuple[Tensor, Tensor]:
    """Two volumes [2, M, D, H, W] with two bright boxes each in noise, and their masks [2, 2, D, H, W]."""
    images = 0.5 * volumes(modalities, shape, batch=2, seed=3)
    masks = torch.zeros(2, 2, *shape)
    depth, height, width = shape
    for volume in range(2):
        down, right = height // 8 * (1 + volume), width // 8 * (3 - volume)
        inner = (slice(depth // 4, 3 * depth // 4), slice(down, down + height // 2))
        masks[(volume, 0, *inner, slice(right, right + width // 4))] = 1
        masks[(volume, 1, *inner, slice(right + width // 4, right + width // 2))] = 1
    # The first class is bright in every modality, the second dark.
    return images + 2 * masks[:, :1] - 2 * masks[:, 1:], masks


class VolumeTests:
    """Conformance of one method of volumes under every fusion, with the settings of its preset "smoke".

    Attributes:
        method: The method.
        shape: (D, H, W) on which the network is tried.
        odd: Shapes that are no multiples of what the network wants.
        overfit_fusions: Fusions that are trained on two volumes.
        overfit_preset: Whose settings the network has then.
        overfit_steps: Steps of it.
        overfit_lr: Its largest learning rate.
    """

    method: Method
    shape: Shape = (8, 32, 32)
    odd: tuple[Shape, ...] = ((7, 30, 43),)
    overfit_fusions: tuple[str, ...] = ("early", "hybrid", "late")
    overfit_preset: str = "quick"
    overfit_steps: int = 120
    overfit_lr: float = 5e-3

    def build(
        self, fusion: str, modalities: int = 2, shape: Shape | None = None, preset: str = "smoke"
    ) -> nn.Module:
        """The network of a fusion for two classes, always from the same seed."""
        torch.manual_seed(0)
        config = volume_config(self.method, shape or self.shape, preset)
        return build_model(self.method, mock_task(modalities, 2), declared(fusion), config)

    def test_it_says_what_it_is(self) -> None:
        """Volumes, every fusion, a reference, and presets that are settings of its own."""
        assert self.method.dims == 3
        assert self.method.fusions == ("early", "hybrid", "late")
        assert len(self.method.paper) > 60
        assert set(self.method.presets) == {"quick", "smoke"}
        named = {key for preset in self.method.presets.values() for key in preset}
        assert {key for key in named if "." not in key} <= set(self.method.settings)
        assert {key for key in named if "." in key} <= {"volume.shape", "volume.patch"}

    @pytest.mark.parametrize("modalities", [2, 3, 4])
    @pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
    def test_shapes(self, fusion: str, modalities: int) -> None:
        """Logits [B, K, D, H, W] of the size of the volume, odd ones too."""
        for shape in (self.shape, *self.odd):
            network = self.build(fusion, modalities, shape).eval()
            with torch.no_grad():
                logits = network(volumes(modalities, shape))
            assert logits.shape == (1, 2, *shape)
            assert bool(logits.isfinite().all())

    @pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
    def test_every_parameter_gets_a_gradient(self, fusion: str) -> None:
        """One backward pass reaches all, and none of it is counted twice."""
        network = self.build(fusion).train()
        logits = network(volumes(2, self.shape))
        (logits * volumes(2, self.shape, seed=5)).sum().backward()
        unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert unreached == []
        names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        assert len(names) == len(list(network.parameters()))

    @pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
    def test_every_modality_counts_and_no_neighbour_does(self, fusion: str) -> None:
        """A change in one modality changes the logits; one in another volume of the batch does not."""
        network = self.build(fusion).eval()
        pair = volumes(2, self.shape, batch=2)
        with torch.no_grad():
            before = network(pair[:1])
            assert torch.allclose(network(pair)[:1], before, atol=1e-4)
            for modality in range(2):
                changed = pair[:1].clone()
                changed[:, modality] = changed[:, modality].flip(-1)
                assert not torch.allclose(network(changed), before, atol=1e-4)

    @pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
    def test_same_seed_same_weights_and_they_are_saved(self, fusion: str) -> None:
        """Built twice from a seed; saved and loaded into one of another seed; sent by pickle."""
        network, again = self.build(fusion).eval(), self.build(fusion)
        pairs = zip(network.state_dict().values(), again.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        torch.manual_seed(7)
        config = volume_config(self.method, self.shape)
        other = build_model(self.method, mock_task(2, 2), declared(fusion), config).eval()
        kept = io.BytesIO()
        torch.save(network.state_dict(), kept)
        kept.seek(0)
        x = volumes(2, self.shape)
        with torch.no_grad():
            wanted = network(x)
            assert not torch.equal(other(x), wanted)
            other.load_state_dict(torch.load(kept, weights_only=True))
            assert torch.equal(other(x), wanted)
            assert torch.equal(pickle.loads(pickle.dumps(network))(x), wanted)

    def test_hybrid_adds_encoders_and_merges_alone(self) -> None:
        """One encoder a modality, one decoder, and a 1x1x1 convolution of M * C to C channels a map."""
        config = volume_config(self.method, self.shape)
        early = self.build("early", modalities=1)
        one = early.network.network
        assert isinstance(one, EncoderDecoder)
        maps = one.encoder(volumes(1, self._padded(early)))
        assert tuple(m.shape[1] for m in maps) == one.channels
        count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
        merges = sum(3 * c * c + c for c in one.channels)
        assert count(self.build("hybrid", 3)) == count(one) + 2 * count(one.encoder) + merges
        assert count(self.build("late", 3)) == 3 * count(one)
        concat = Config("smoke", fusion={"hybrid": "concat"}, method=config.method, volume=config.volume)
        with pytest.raises(UsbenchError, match=r"fixed width; use fusion\.hybrid=conv1x1"):
            build_model(self.method, mock_task(2, 2), declared("hybrid"), concat)

    def _padded(self, network: nn.Module) -> Shape:
        depth, height, width = (s + -s % m for s, m in zip(self.shape, network.multiple, strict=True))
        return depth, height, width

    def test_bfloat16_is_finite(self) -> None:
        """Autocast to bfloat16 gives finite logits; its 3D gradients are not always written on a CPU."""
        network = self.build("early").train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(volumes(2, self.shape))
        assert bool(logits.isfinite().all())

    @pytest.mark.slow
    @pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
    def test_overfits_two_volumes(self, fusion: str) -> None:
        """Trained on two volumes, the network segments them: a Dice over 0.9."""
        if fusion not in self.overfit_fusions:
            pytest.skip("too slow on two cores; the same encoder and decoder are trained under early fusion")
        network = self.build(fusion, preset=self.overfit_preset)
        images, masks = two_boxes(2, self.shape)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.overfit_lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.overfit_lr, total_steps=self.overfit_steps
        )
        for _ in range(self.overfit_steps):
            logits = network.train()(images)
            probabilities = logits.sigmoid()
            overlap = (probabilities * masks).sum((0, 2, 3, 4))
            dice = (2 * overlap + 1) / ((probabilities + masks).sum((0, 2, 3, 4)) + 1)
            entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks)
            optimiser.zero_grad()
            (1 - dice.mean() + entropy).backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            found = network.eval()(images) > 0
        dice = 2 * (found * masks).sum((0, 2, 3, 4)) / (found.sum((0, 2, 3, 4)) + masks.sum((0, 2, 3, 4)))
        assert dice.min() > 0.9


def assert_is_monais(ours: EncoderDecoder, theirs: nn.Module, shapes: list[Shape], channels: int) -> None:
    """Two halves are MONAI's network, made from the same seed: tensors by name, and logits to the bit.

    Args:
        ours: The halves.
        theirs: MONAI's network.
        shapes: (D, H, W) of volumes tried.
        channels: Input channels.
    """
    halves = [dict(half.state_dict()) for half in (ours.encoder, ours.decoder)]
    assert not halves[0].keys() & halves[1].keys()
    own = {**halves[0], **halves[1]}
    # DynUNet has its blocks a second time, as "skip_layers"; UNETR norms of an attention that it lacks.
    twice = ("skip_layers.", "norm_cross_attn", ".cross_attn")
    wanted = {k: v for k, v in theirs.state_dict().items() if not any(word in k for word in twice)}
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)
    shared = {id(p) for p in ours.encoder.parameters()} & {id(p) for p in ours.decoder.parameters()}
    assert shared == set()
    used = {id(p): p.numel() for n, p in theirs.named_parameters() if "cross_attn" not in n}
    assert sum(p.numel() for p in ours.parameters()) == sum(used.values())
    for seed, shape in enumerate(shapes):
        x = volumes(channels, shape, seed=seed)
        for training in (False, True):
            outcomes = []
            for network in (ours.train(training), theirs.train(training)):
                torch.manual_seed(seed)  # For dropout.
                outcomes.append(network(x))
            assert torch.equal(*outcomes)
