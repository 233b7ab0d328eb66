"""The trainable projection of Zeus: from features of an image to tokens of a language model.

Dai et al., "Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal Medical Imaging",
section 3.2: two linear layers. The others are those of its sources: the Q-Former of Li et al.,
BLIP-2 (ICML 2023), and the single linear layer of Thawkar et al., XrayGPT (arXiv:2306.07971).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from usbench import UsbenchError
from usbench.methods.zeus.vision_language import build_model, check_keys
from usbench.tools import below, make_importable, read_state, read_weights, seeded, unknown

KINDS = ("linear", "mlp", "qformer")


class LinearProjection(nn.Module):
    """Features [N, T, in_width] -> tokens [N, T, out_width], by one linear layer."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.out = nn.Linear(in_width, out_width)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, T, in_width] -> tokens [N, T, out_width]."""
        tokens: Tensor = self.out(features)
        return tokens

    def load_xraygpt(self, path: Path) -> None:
        """Fill the layer from XrayGPT's checkpoint, of which it is the only trained part: `llama_proj.*`.

        Raises:
            UsbenchError: Where the file is damaged, lacks the layer, or has one of another shape.
        """
        remedy = "give XrayGPT's checkpoint xraygpt_pretrained1.pth"
        state = below(read_state(path, remedy), "llama_proj.")
        for name, wanted in self.out.state_dict().items():
            if name not in state:
                raise UsbenchError(f"{path}: there is no llama_proj.{name}; {remedy}")
            if state[name].shape != wanted.shape:
                shapes = f"{tuple(state[name].shape)}, not {tuple(wanted.shape)}"
                raise UsbenchError(f"{path}: llama_proj.{name} is {shapes}; {remedy}")
        self.out.load_state_dict({name: state[name] for name in self.out.state_dict()})


class MlpProjection(nn.Module):
    """Features [N, T, in_width] -> tokens [N, T, out_width], by two linear layers, a GELU between."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_width, in_width)
        self.act = nn.GELU()
        self.out = nn.Linear(in_width, out_width)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, T, in_width] -> tokens [N, T, out_width]."""
        tokens: Tensor = self.out(self.act(self.hidden(features)))
        return tokens


class QFormerProjection(nn.Module):
    """Features [N, T, in_width] -> tokens [N, queries, out_width], by a Q-Former and a linear layer.

    Args:
        in_width: Width of the image features.
        out_width: Width of the language model.
        queries: Number of tokens that come out.
        layers: Of the Q-Former; every second one looks at the features.
        hidden: Width of the Q-Former.
        heads: Of its attention.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        queries: int = 32,
        layers: int = 12,
        hidden: int = 768,
        heads: int = 12,
    ) -> None:
        super().__init__()
        make_importable()
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        config = Blip2QFormerConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            encoder_hidden_size=in_width,
            cross_attention_frequency=2,
        )
        self.qformer = Blip2QFormerModel(config)
        self.query_tokens = nn.Parameter(torch.empty(1, queries, hidden).normal_(0, 0.02))
        self.out = nn.Linear(hidden, out_width)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, T, in_width] -> tokens [N, queries, out_width]."""
        queries = self.query_tokens.expand(features.shape[0], -1, -1)
        mixed = self.qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
        tokens: Tensor = self.out(mixed)
        return tokens

    def load_qformer(self, source: Path | Mapping[str, Tensor]) -> None:
        """Fill the Q-Former and its queries from BLIP-2; the linear layer stays as it is.

        Args:
            source: A folder or file of weights, or a state dict: `query_tokens` [1, queries, hidden] and
                `qformer.*`.

        Raises:
            UsbenchError: Where a tensor is missing, left over or of another shape.
        """
        from transformers import Blip2QFormerModel

        if isinstance(source, Mapping):
            name, state = "the Q-Former", dict(source)
        else:
            name, state = str(source), read_weights(Path(source), ("qformer.", "query_tokens"))
        queries = state.get("query_tokens")
        if queries is None:
            check_keys(["query_tokens"], [], name)
        elif queries.shape != self.query_tokens.shape:
            raise UsbenchError(
                f"{name}: query_tokens has shape {tuple(queries.shape)}, the projection "
                f"{tuple(self.query_tokens.shape)}; give the projection the queries and width of the weights"
            )
        else:
            filled = build_model(Blip2QFormerModel, self.qformer.config, below(state, "qformer."), name)
            self.qformer.load_state_dict(filled.state_dict())
            self.query_tokens.data.copy_(queries)


def make_projection(kind: str, in_width: int, out_width: int, seed: int, **sizes: int) -> nn.Module:
    """A projection whose start depends on a seed alone. The caller's random state is left as it was.

    Args:
        kind: One of `KINDS`.
        in_width: Width of the image features.
        out_width: Width of the language model.
        seed: Of the random start.
        sizes: Further arguments of `QFormerProjection`; the other kinds take none.

    Raises:
        UsbenchError: For another kind.
    """
    if kind not in KINDS:
        raise unknown("projection", kind, KINDS)
    with seeded(seed):
        if kind == "qformer":
            return QFormerProjection(in_width, out_width, **sizes)
        return (MlpProjection if kind == "mlp" else LinearProjection)(in_width, out_width)
