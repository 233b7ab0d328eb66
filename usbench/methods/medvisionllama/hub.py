"""The files of a hub's model that hold one block of it, and no others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from usbench import UsbenchError
from usbench.tools import read_json

INDEX, WHOLE, CONFIG = "model.safetensors.index.json", "model.safetensors", "config.json"


def fetched(repository: str, names_of_layer: Callable[[int], tuple[str, ...]]) -> Path:
    """The folder of a model of the Hugging Face hub with its configuration and the files of its last block.

    They are kept where huggingface_hub keeps all it fetches, and are used again without a connection.

    Args:
        repository: OWNER/NAME.
        names_of_layer: From the number of blocks to what the names of the wanted tensors begin with.

    Raises:
        UsbenchError: Where the hub cannot be reached, wants a licence accepted, or has no such model.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def get(name: str) -> Path:
        return Path(hf_hub_download(repository, name))

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        config = get(CONFIG)
        remedy = f"remove {config.parent} and start again"
        told = read_json(config, "the configuration of a language model", remedy)
        try:
            index = get(INDEX)
        except EntryNotFoundError:
            get(WHOLE)
            return config.parent
        map_of = read_json(index, "an index of weights", remedy)["weight_map"]
        wanted = names_of_layer(int(told["num_hidden_layers"]))
        for shard in sorted({str(file) for name, file in map_of.items() if name.startswith(wanted)}):
            get(shard)
        return config.parent
    except UsbenchError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise UsbenchError(
            f"{repository}: is no model of transformers with .safetensors ({type(error).__name__}: {error}); "
            "give method.llm_path another one"
        ) from error
    except Exception as error:
        raise _cannot_fetch(repository, error) from error


def _cannot_fetch(repository: str, error: Exception) -> UsbenchError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if isinstance(error, GatedRepoError):
        remedy = (
            f"accept its licence at https://huggingface.co/{repository}, then sign in with: hf auth login"
        )
    elif isinstance(error, RepositoryNotFoundError):
        remedy = "check the name; a private model needs: hf auth login"
    else:
        remedy = "connect and start again, or give method.llm_path a local folder"
    return UsbenchError(f"{repository}: cannot be fetched from the hub ({reason}); {remedy}")
