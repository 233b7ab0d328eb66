"""What the language model of Zeus is asked, and what is kept of its answer.

Dai, Ye, Liu, Tang, Zhan: "Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal
Medical Imaging", sections 3.1 and 3.2: one question for each target and modality, in the frame
"###Doctor: X_R X_Q ###Assistant:", where the tokens of the image stand for X_R and the question for X_Q.
The paper's language model was tuned within the conversation of Thawkar et al., XrayGPT (arXiv:2306.07971),
which has other roles, tags around the image and a sentence before it; it can be had instead.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from usbench import UsbenchError
from usbench.tools import unknown

STOP = "###"
TEMPLATES = ("paper", "xraygpt")
_DOCTOR, _ASSISTANT = "###Doctor:", "###Assistant:"
_SYSTEM = (
    "You are an experienced Doctor, give the following medical scan: <Img>ImageContent</Img>. "
    "You will be able to see the medical scan once I provide it to you. Please answer my questions."
)
_KEPT = frozenset("-.,()/+&'")
ABOUT = ("own", "shuffled", "other")
_ELSEWHERE = (
    "urinary bladder",
    "thyroid gland",
    "pancreas",
    "left femur",
    "stomach",
    "aorta",
    "right lung",
    "gallbladder",
    "uterus",
    "trachea",
    "sternum",
    "eye",
)


def clean_name(name: str, empty: str) -> str:
    """A name fit for a prompt.

    Letters, marks and digits of any script and the signs - . , ( ) / + & ' stay. Everything else,
    so "_", "#", "<", "|", ">", line ends and control characters, becomes a space. Runs of spaces
    become one, the ends are trimmed. A name of which no letter or digit is left becomes `empty`.
    """
    text = "".join(c if c in _KEPT or unicodedata.category(c)[0] in "LMN" else " " for c in name)
    text = " ".join(text.split())
    return text if any(c.isalnum() for c in text) else empty


def targets(structures: Sequence[str], about: str = "own") -> list[str]:
    """What the language model is asked about for each class: its own structure, or another for comparison.

    Each class keeps a question of its own in every case, so that classes can be told apart by it.

    Args:
        structures: The words of every class.
        about: "own"; "shuffled", where each class has the structure of the next and the last that of the
            first; or "other", where each has an organ that none of the words name.

    Raises:
        UsbenchError: For another value, for a single class that is to be shuffled, and for more classes than
            there are other organs.
    """
    if about == "own":
        return list(structures)
    if about == "shuffled" and len(structures) > 1:
        return [*structures[1:], structures[0]]
    if about == "shuffled":
        raise UsbenchError(
            "method.about=shuffled: the task has one class, whose instruction cannot be another's; "
            "choose method.about=other"
        )
    if about != "other":
        raise unknown("value of method.about", about, ABOUT)
    # Without spaces and signs, so that "lungs", "gall bladder" and "pancreas/duodenum" are found too.
    named = ["".join(c for c in words.lower() if c.isalpha()) for words in structures]
    free = [
        organ
        for organ in _ELSEWHERE
        if not any(w in words for w in set(organ.split()) - {"left", "right"} for words in named)
    ]
    if len(structures) > len(free):
        raise UsbenchError(
            f"method.about=other: there are {len(free)} organs that the task does not name, and it has "
            f"{len(structures)} classes; choose method.about=shuffled"
        )
    return free[: len(structures)]


def question(instance: str, modality: str) -> str:
    """The paper's question on a target and a modality, both cleaned by `clean_name`.

    An empty target is called "target", an empty modality "medical".
    """
    target, kind = clean_name(instance, "target"), clean_name(modality, "medical")
    return (
        f"Please analyze the given {target} {kind} image and give as much important information "
        f"in such a {kind} for segmenting {target} as you can."
    )


def prompt_parts(
    instance: str, modality: str, template: str = "paper", shown: bool = True
) -> tuple[str, str]:
    """What the language model reads before the tokens of the image, and after them.

    Args:
        instance: The target.
        modality: Of the image.
        template: One of `TEMPLATES`.
        shown: Whether there are tokens of an image, which XrayGPT's conversation puts in tags.
    """
    asked = question(instance, modality)
    if template == "xraygpt":
        patient = f"{_SYSTEM}{STOP}Patient: "
        before, after = (f"{patient}<Img>", f"</Img> {asked}") if shown else (patient, asked)
        return before, f"{after}{STOP}Doctor:"
    return _DOCTOR, f" {asked} {_ASSISTANT}"


def clean_answer(text: str, question: str = "", template: str = "paper") -> tuple[str, bool]:
    """An answer fit for a text encoder, and whether it was empty and so replaced by `question`.

    The answer ends at the first "###"; with `template` "xraygpt" it begins after its last "Doctor:".
    Control characters and halves of characters become spaces, runs of white space one space, the ends are
    trimmed. An answer without any letter or digit is empty; the text is then that of the question.
    """
    answer = text.split(STOP, 1)[0]
    if template == "xraygpt":
        answer = answer.rsplit("Doctor:", 1)[-1]
    answer = "".join(c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else " " for c in answer)
    answer = " ".join(answer.split())
    if any(c.isalnum() for c in answer):
        return answer, False
    return question, True
