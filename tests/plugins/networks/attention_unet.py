from monai.networks.nets import AttentionUnet

from usbench import Method


def build(task, fusion):
    return AttentionUnet(2, len(task.modalities), len(task.classes), (8, 16, 32, 64), (2, 2, 2))


METHOD = Method("attention-unet", "arXiv:1804.03999", build_segmenter=build, fusions=("early",))
