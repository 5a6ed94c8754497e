"""A question as a conversation, and as the text that a processor's chat template makes of it."""

from typing import Any

from clipmill.words.protocol import Question


def conversation(question: Question) -> list[dict[str, Any]]:
    """Every example with its answer, then the question; a picture is named and not held."""
    found: list[dict[str, Any]] = []
    for shown in question.examples:
        found.append(_asked(shown.prompt))
        found.append({"role": "assistant", "content": [{"type": "text", "text": shown.answer}]})
    return [*found, _asked(question.prompt)]


def rendered(processor: Any, question: Question) -> str:
    """A question as the chat template of a processor puts it."""
    return str(processor.apply_chat_template(conversation(question), add_generation_prompt=True, tokenize=False))


def _asked(prompt: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
