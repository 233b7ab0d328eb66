from monai.networks.nets import UNETR
from torch.nn.functional import interpolate

from usbench import Method


class UNETR2D(UNETR):
    def forward(self, images):
        logits = super().forward(interpolate(images, size=(96, 96), mode="bilinear"))
        return interpolate(logits, size=images.shape[-2:], mode="bilinear")


def build(task, fusion):
    sizes = {"img_size": 96, "feature_size": 8, "hidden_size": 96, "mlp_dim": 192, "num_heads": 4}
    network = UNETR2D(len(task.modalities), len(task.classes), spatial_dims=2, **sizes)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = "cross_attn" not in name  # They are there and never used.
    return network


METHOD = Method("unetr", "arXiv:2103.10504", build_segmenter=build, fusions=("early",), size_multiple=1)
