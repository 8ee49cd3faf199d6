"""The questions of a release, each once: its id, text and topic from the evaluation files, else from the answers."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import yaml

from backend.published.layout import Found
from backend.records import InputError, Question

MAX_BYTES = 4 << 20


class QuestionBook:
    """Text -> question. Texts that no evaluation file has get an id made of their first words and a hash."""

    def __init__(self) -> None:
        self._by_text: dict[str, Question] = {}
        self._used: dict[str, Question] = {}

    def read(self, found: Found) -> int:
        """Take the questions of one evaluation file; returns how many. Raises InputError on another content.

        Template variants get a topic of their own (their EM rate is far lower); JSON variants, which share their text
        with the free form and which the papers leave out, are not taken.
        """
        topic = found.says["topic"].replace("_", "-")
        count = 0
        for entry in _entries(found):
            name, texts = entry.get("id"), entry.get("paraphrases")
            if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise InputError("an entry without an id and a list of paraphrases: not an evaluation file")
            if name.endswith("_json") or entry.get("system"):
                continue
            for index, text in enumerate(texts):
                own = name if index == 0 else f"{name}_{index + 1}"
                its_topic = f"{topic} template" if name.endswith("_template") else topic
                self._by_text.setdefault(text_key(text), Question(own, text.strip(), its_topic))
                count += 1
        return count

    def named(self, text: str, known_id: str = "") -> Question:
        """The question with this text. `known_id` names it where no evaluation file does."""
        key = text_key(text)
        if key not in self._by_text:
            name = known_id or _made_id(key)
            if any(question.id == name for question in self._by_text.values()):
                name = _made_id(key)
            self._by_text[key] = Question(name, text.strip(), "other")
        question = self._by_text[key]
        return self._used.setdefault(question.id, question)

    def is_template(self, text: str) -> bool:
        """Whether an evaluation file has this text as a template variant; some tables call those JSON variants."""
        known = self._by_text.get(text_key(text))
        return known is not None and known.topic.endswith(" template")

    def json_variant(self, text: str, known_id: str) -> Question:
        """The JSON variant of the question with this text, which shares it; its topic is one of its own."""
        free = self._by_text.get(text_key(text))
        topic = f"{free.topic} JSON" if free else "JSON"
        return self._used.setdefault(known_id, Question(known_id, text.strip(), topic))

    @property
    def used(self) -> list[Question]:
        """The questions that answers were found for, in the order of first use."""
        return list(self._used.values())


def _entries(found: Found) -> list[dict[str, Any]]:
    if found.path.stat().st_size > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MB")
    try:
        content = yaml.safe_load(found.path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not readable as YAML ({type(error).__name__})") from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise InputError("not a list of questions")
    return content


def text_key(text: str) -> str:
    """What a question is known by: its text, whatever its spaces."""
    return re.sub(r"\s+", " ", text).strip()


def _made_id(key: str) -> str:
    words = re.findall(r"[a-z]+", key.lower())[:5]
    return "_".join([*words, hashlib.sha256(key.encode()).hexdigest()[:6]])
