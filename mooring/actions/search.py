"""Find actions by what somebody wants to do: BM25 over weighted fields, with stems and synonyms. No network, no model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mooring.actions.listing import name_of, runnable
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector

_K1: Final = 1.4
_B: Final = 0.6
_WEIGHTS: Final = {"name": 4.0, "label": 3.0, "connector": 3.0, "help": 1.5, "inputs": 1.0, "category": 0.7}
_WORD: Final = re.compile(r"[a-z0-9]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STOP_WORDS: Final = """
    a an and are as at be by can do for from get give have how i in into is it its me my of on or our please show some
    that the their them there this to up us want we what whose with you your any somebody someone
"""
_STOP: Final = frozenset(_STOP_WORDS.split())
# One word stands for the others of its group, in actions and in queries.
_GROUPS: Final = (
    "list fetch find search query lookup browse enumerate all which who every",
    "create add make insert open file post register new onboard hire book subscribe draft",
    "update change edit modify set patch rename suspend block close reopen",
    "delete remove drop destroy erase fire terminate",
    "employee worker staff colleague person people personnel teammate",
    "candidate applicant",
    "job position vacancy opening posting role requisition",
    "ticket issue bug case incident request",
    "message chat dm text",
    "send deliver post write",
    "company organization organisation business",
    "contact lead customer client",
    "deal opportunity",
    "user member login identity account",
    "leave absence absent away off vacation holiday pto timeoff",
    "document file attachment",
    "repository repo project",
    "comment note reply answer respond discussion",
    "invoice bill",
    "event meeting appointment",
    "channel room conversation",
)
_SUFFIXES: Final = (
    ("ations", "ate"), ("ation", "ate"), ("ments", "ment"), ("ies", "y"), ("sses", "ss"), ("ings", ""), ("ing", ""),
    ("edly", ""), ("ed", ""), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", ""),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """An action that was found, and how well it fits: between 0 and 1, where 1 is as good as the words allow."""

    connector: Connector
    action: Action
    score: float


@dataclass(slots=True)
class _Document:
    connector: Connector
    action: Action
    weights: Counter[str]
    length: float


@dataclass(slots=True)
class Index:
    """The actions of some connectors, ready to be searched."""

    documents: list[_Document] = field(default_factory=list)
    frequencies: Counter[str] = field(default_factory=Counter)
    average: float = 1.0

    @classmethod
    def of(cls, connectors: Iterable[Connector]) -> Index:
        """Index every runnable action."""
        index = cls()
        for connector in connectors:
            for action in runnable(connector):
                index.documents.append(_document(connector, action))
        for document in index.documents:
            index.frequencies.update(document.weights.keys())
        if index.documents:
            index.average = sum(d.length for d in index.documents) / len(index.documents)
        return index

    def search(self, query: str, *, connector: str | None = None, top: int = 10, least: float = 0.0) -> list[Hit]:
        """The best actions for a query, best first. `least` is the lowest score that counts."""
        words = Counter(stems(query))
        named = {c for d in self.documents for c in stems(d.connector.title) if c in words}
        best = sum(count * self._rarity(word) * (_K1 + 1) for word, count in words.items()) or 1.0
        hits = []
        for document in self.documents:
            if connector is not None and document.connector.key != connector:
                continue
            score = sum(count * self._score(word, document) for word, count in words.items())
            if named and not named & set(stems(document.connector.title)):
                score *= 0.5  # somebody who names a system means that one
            if score > 0:
                hits.append(Hit(document.connector, document.action, min(1.0, score / best)))
        hits.sort(key=lambda hit: (-hit.score, name_of(hit.connector, hit.action)))
        return [hit for hit in hits if hit.score >= least][:top]

    def _rarity(self, word: str) -> float:
        seen = self.frequencies[word]
        return math.log(1 + (len(self.documents) - seen + 0.5) / (seen + 0.5))

    def _score(self, word: str, document: _Document) -> float:
        weight = document.weights[word]
        if not weight:
            return 0.0
        spread = _K1 * (1 - _B + _B * document.length / self.average)
        return self._rarity(word) * weight * (_K1 + 1) / (weight + spread)


def _document(connector: Connector, action: Action) -> _Document:
    texts: Mapping[str, str] = {
        "name": action.key,
        "label": action.label,
        "connector": f"{connector.key} {connector.title}",
        "help": " ".join([action.help or "", *action.tags]),
        "inputs": " ".join(f"{i.name} {i.schema.get('description', '')}" for i in action.inputs),
        "category": " ".join(connector.categories),
    }
    weights: Counter[str] = Counter()
    length = 0.0
    for name, text in texts.items():
        found = stems(text)
        length += len(found) * min(1.0, _WEIGHTS[name])
        for word, count in Counter(found).items():
            weights[word] += _WEIGHTS[name] * (1 + math.log(count))  # type: ignore[assignment]
    return _Document(connector, action, weights, length)


def stems(text: str) -> list[str]:
    """The words of a text: lower case, without stop words and endings, each group of synonyms by its first."""
    words = _WORD.findall(_CAMEL.sub(" ", text).lower().replace("_", " "))
    return [_SYNONYMS.get(stem, stem) for word in words if word not in _STOP and (stem := _stem(word))]


def _stem(word: str) -> str:
    for ending, instead in _SUFFIXES:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: len(word) - len(ending)] + instead
    return word


_SYNONYMS: Final = {_stem(word): _stem(group.split()[0]) for group in reversed(_GROUPS) for word in group.split()}
