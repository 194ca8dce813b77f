"""Write `.s1.yaml` expressions of the authentication part as templates of the native format.

Both see the same values under different names: `$.credentials.apiKey` here is `${apiKey}` there. Choices that depend on the
auth method alone are made now, so that the checks of URLs see which host stands in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mooring.protocol.expression_lexer import ExpressionError, Token, tokenize, unquote
from mooring.protocol.expressions import compile_expression, truthy

_CREDENTIAL = re.compile(r"\bcredentials(?:\.([A-Za-z_][\w-]*)|\[\s*['\"]([^'\"]+)['\"]\s*\])")
_CONTEXT = re.compile(r"\bcontext\.authenticationType\b")
_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_OTHER_ROOT = re.compile(r"\b(inputs|steps|iterator|response|context|result)\b[.\[]")


class Untranslatable(ValueError):
    """The expression needs what a template of an auth method does not see."""


def translate(text: str, names: Mapping[str, str], method: str, *, seen: str = "") -> str:
    """Return the native template. `names` says what a credential is called here. Raises Untranslatable.

    `seen` is the name of something beside credentials that the text may read.
    """
    trimmed = text.strip()
    braced = trimmed.startswith("{{") and trimmed.endswith("}}") and len(trimmed) > 4
    body = (trimmed[2:-2] if braced else trimmed).replace("$.", "").strip()
    if _PLACEHOLDER.search(body, 0, body.rfind("}") + 1):
        pieces, at = [], 0
        for match in _PLACEHOLDER.finditer(body, 0, body.rfind("}") + 1):
            pieces += [body[at : match.start()], _template(match[1], names, method, seen)]
            at = match.end()
        return "".join([*pieces, body[at:]])
    if braced or trimmed.startswith(("$.", "$[")):
        return _template(body, names, method, seen)
    return text


def credentials_in(text: str, names: Mapping[str, str]) -> set[str]:
    """The credentials that a text of the file names."""
    found = set()
    for dotted, quoted in _CREDENTIAL.findall(text):
        found.add(quoted or (dotted if dotted in names else dotted.partition("-")[0]))
    return found


def _template(expression: str, names: Mapping[str, str], method: str, seen: str) -> str:
    ours = _CONTEXT.sub(f'"{method}"', expression)
    ours = _CREDENTIAL.sub(lambda match: _name(match[1], match[2], names), ours)
    if other := next((name for name in _OTHER_ROOT.findall(ours) if name != seen), None):
        raise Untranslatable(f"`{other}` is not available here")
    try:
        compile_expression(ours)
        return _written(ours)
    except ExpressionError as error:
        raise Untranslatable(f"the expression is not understood: {error.problem}") from None


def _name(dotted: str | None, quoted: str | None, names: Mapping[str, str]) -> str:
    """What a credential is called here. Behind a dot, `a-b` is one name only where there is such a field."""
    name = dotted or quoted or ""
    if name in names:
        return names[name]
    if dotted is not None:
        first, minus, rest = dotted.partition("-")
        return names.get(first, first) + minus + rest
    return re.sub(r"\W", "_", name)


def _written(expression: str) -> str:
    """Write an expression as text with placeholders, as far as that is possible."""
    tokens = tokenize(expression)
    question = _outside(tokens, "?")
    if question is not None:
        condition = expression[: tokens[question].offset]
        colon = _colon(tokens, question)
        compiled = compile_expression(condition)
        if not compiled.names and colon is not None:
            chosen = truthy(compiled.evaluate({}))
            start, stop = tokens[question].offset + 1, tokens[colon].offset
            return _written(expression[start:stop] if chosen else expression[stop + 1 :])
        return "${" + expression.strip() + "}"
    if len(tokens) == 2 and tokens[0].kind == "string":
        return unquote(tokens[0].text).replace("${", "$${")
    plus = _outside(tokens, "+")
    if plus is not None and any(token.kind == "string" for token in tokens) and not _others(tokens):
        return _written(expression[: tokens[plus].offset]) + _written(expression[tokens[plus].offset + 1 :])
    return "${" + expression.strip() + "}"


def _depths(tokens: list[Token]) -> list[int]:
    depth, out = 0, []
    for token in tokens:
        if token.kind == "operator" and token.text in "([{":
            depth += 1
        out.append(depth)
        if token.kind == "operator" and token.text in ")]}":
            depth -= 1
    return out


def _outside(tokens: list[Token], operator: str) -> int | None:
    """Index of the first such operator outside of brackets."""
    pairs = zip(tokens, _depths(tokens), strict=True)
    return next((i for i, (t, d) in enumerate(pairs) if d == 0 and t.kind == "operator" and t.text == operator), None)


def _colon(tokens: list[Token], question: int) -> int | None:
    nested = 0
    for index, (token, depth) in enumerate(zip(tokens, _depths(tokens), strict=True)):
        if index <= question or depth or token.kind != "operator":
            continue
        if token.text == "?":
            nested += 1
        elif token.text == ":":
            if not nested:
                return index
            nested -= 1
    return None


def _others(tokens: list[Token]) -> bool:
    """Whether operators outside of brackets do more than to join texts."""
    pairs = zip(tokens, _depths(tokens), strict=True)
    return any(d == 0 and t.kind == "operator" and t.text not in "+.)]}" for t, d in pairs)
