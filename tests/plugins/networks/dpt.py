import segmentation_models_pytorch as smp
from torch import nn

from usbench import Method


def build(task, fusion):
    decoder = {"decoder_intermediate_channels": (32, 32, 64, 64), "decoder_fusion_channels": 32}
    encoder = {"encoder_weights": None, "in_channels": len(task.modalities), "dynamic_img_size": True}
    network = smp.DPT("tu-vit_tiny_patch16_224", classes=len(task.classes), **encoder, **decoder)
    network.encoder.model.norm = network.encoder.model.head = nn.Identity()  # Both are there and never used.
    return network


METHOD = Method("dpt", "arXiv:2103.13413", build_segmenter=build, fusions=("early",))
