"""The expression language inside `${ … }`: parsed once into closures, evaluated many times.

A subset of JEXL with JavaScript's loose rules: literals, `a.b`, `a[0]`, `a[.x > 1]` (a filter), ternary,
`a ?: b`, `a ?? b`, `&& || !`, comparisons, `in`, arithmetic, lists, objects, calls of fixed functions. It
cannot reach Python: members are looked up in mappings, lists and texts only, and there is no eval. Length and
nesting are bounded when it is compiled, the size of texts when it runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mooring.protocol.expression_functions import FUNCTIONS, Function
from mooring.protocol.expression_lexer import ExpressionError, Token, tokenize, unquote
from mooring.protocol.expression_values import (
    MAX_TEXT,
    OPERATORS,
    PRECEDENCE,
    UNDEFINED,
    Undefined,
    element,
    member,
    to_text,
    truthy,
)

__all__ = [
    "UNDEFINED",
    "Expression",
    "ExpressionError",
    "Undefined",
    "compile_expression",
    "to_text",
    "truthy",
]

MAX_LENGTH: Final = 4096  # characters
MAX_DEPTH: Final = 32  # brackets and negations inside each other
MAX_NODES_DEEP: Final = 200  # the longest chain of operators; every link is a Python frame

Scope = Mapping[str, Any]
Run = Callable[[Scope, Any], Any]  # (scope, the element that a relative filter looks at)
_LITERALS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. Two of them are equal when their text is."""

    source: str
    names: frozenset[str] = field(compare=False)  # the root identifiers that it reads
    run: Run = field(compare=False, repr=False)

    def evaluate(self, scope: Scope) -> Any:
        """Return the value, `UNDEFINED` when it resolves to nothing.

        Raises ExpressionError only when a text grows past `MAX_TEXT`.
        """
        return self.run(scope, UNDEFINED)


def compile_expression(
    text: str, functions: Mapping[str, Function] = FUNCTIONS, methods: Mapping[str, Function] | None = None
) -> Expression:
    """Parse `text`. Raises ExpressionError, which carries the offset of the fault.

    `methods` are functions that may also be written behind their first argument, as in `text.trim()`. The native format
    has none.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression may have {MAX_LENGTH} characters, this one has {len(text)}", 0)
    parser = _Parser(tokenize(text), functions, methods)
    node = parser.whole()
    return Expression(text.strip(), frozenset(parser.names), node.run)


class _Node(NamedTuple):
    run: Run
    depth: int = 1


class _Parser:
    """Precedence climbing over the tokens; every method returns the closure of what it read."""

    def __init__(
        self, tokens: list[Token], functions: Mapping[str, Function], methods: Mapping[str, Function] | None
    ) -> None:
        self.names: set[str] = set()
        self._tokens = tokens
        self._functions = functions
        self._methods = methods
        self._at = 0
        self._nesting = 0
        self._relative = False  # a `.name` without a root was read: the enclosing brackets are a filter

    def whole(self) -> _Node:
        if self._peek().kind == "end":
            raise ExpressionError("the expression is empty", 0)
        node = self._conditional()
        if self._peek().kind != "end":
            raise self._unexpected(self._peek())
        return node

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _is(self, operator: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "operator" and token.text == operator

    def _accept(self, operator: str) -> bool:
        found = self._is(operator)
        self._at += found
        return found

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise ExpressionError(f"expected `{operator}`, found {self._peek().shown}", self._peek().offset)

    def _unexpected(self, token: Token) -> ExpressionError:
        return ExpressionError(f"unexpected {token.shown}", token.offset)

    def _node(self, run: Run, *children: _Node) -> _Node:
        depth = 1 + max((child.depth for child in children), default=0)
        if depth > MAX_NODES_DEEP:
            raise ExpressionError("the expression is too long a chain", self._peek().offset)
        return _Node(run, depth)

    def _deeper(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise ExpressionError(f"more than {MAX_DEPTH} levels of nesting", self._peek().offset)

    def _conditional(self) -> _Node:
        self._deeper()
        node = self._binary(-1)
        while self._accept("?"):
            if self._accept(":"):
                node = self._elvis(node, self._conditional())
                continue
            then = self._conditional()
            self._expect(":")
            node = self._ternary(node, then, self._conditional())
        self._nesting -= 1
        return node

    def _elvis(self, condition: _Node, other: _Node) -> _Node:
        left, right = condition.run, other.run

        def run(scope: Scope, item: Any) -> Any:
            value = left(scope, item)
            return value if truthy(value) else right(scope, item)

        return self._node(run, condition, other)

    def _ternary(self, condition: _Node, then: _Node, other: _Node) -> _Node:
        test, yes, no = condition.run, then.run, other.run
        return self._node(
            lambda scope, item: (yes if truthy(test(scope, item)) else no)(scope, item),
            condition,
            then,
            other,
        )

    def _binary(self, minimum: int) -> _Node:
        left = self._unary()
        while True:
            token = self._peek()
            if token.kind not in ("operator", "name") or PRECEDENCE.get(token.text, -1) <= minimum:
                return left
            self._next()
            left = self._operation(token.text, left, self._binary(PRECEDENCE[token.text]))

    def _operation(self, operator: str, left: _Node, right: _Node) -> _Node:
        a, b = left.run, right.run
        if operator == "||":
            return self._elvis(left, right)
        if operator == "&&":

            def both(scope: Scope, item: Any) -> Any:
                value = a(scope, item)
                return b(scope, item) if truthy(value) else value

            return self._node(both, left, right)
        apply = OPERATORS[operator]
        if operator != "+":
            return self._node(lambda scope, item: apply(a(scope, item), b(scope, item)), left, right)
        offset = self._peek().offset

        def plus(scope: Scope, item: Any) -> Any:
            try:
                return apply(a(scope, item), b(scope, item))
            except OverflowError:
                raise _too_large(offset) from None

        return self._node(plus, left, right)

    def _unary(self) -> _Node:
        if not self._accept("!"):
            return self._postfix()
        self._deeper()
        operand = self._unary()
        self._nesting -= 1
        negated = operand.run
        return self._node(lambda scope, item: not truthy(negated(scope, item)), operand)

    def _postfix(self) -> _Node:
        node = self._primary()
        while True:
            value = node.run
            if self._accept("."):
                token = self._peek()
                name = self._identifier()
                if self._methods is not None and self._is("("):
                    node = self._call(token, self._methods, node)
                else:
                    node = self._node(_member_of(value, name), node)
            elif self._accept("["):
                outside, self._relative = self._relative, False
                inner = self._conditional()
                is_filter, self._relative = self._relative, outside
                self._expect("]")
                node = self._node((_filter if is_filter else _element_of)(value, inner.run), node, inner)
            else:
                return node

    def _identifier(self) -> str:
        token = self._next()
        if token.kind != "name":
            raise ExpressionError(f"expected a name after `.`, found {token.shown}", token.offset)
        return token.text

    def _primary(self) -> _Node:
        token = self._next()
        if token.kind == "number":
            return self._constant(_number(token.text))
        if token.kind == "string":
            return self._constant(unquote(token.text))
        if token.kind == "name":
            return self._name(token)
        if token.kind != "operator":
            raise ExpressionError("the expression ends too early", token.offset)
        if token.text == "-" and self._peek().kind == "number":  # JEXL negates number literals only
            return self._constant(-_number(self._next().text))
        if token.text == "(":
            node = self._conditional()
            self._expect(")")
            return node
        if token.text == "[":
            return self._list()
        if token.text == "{":
            return self._object()
        if token.text == ".":
            self._relative = True
            name = self._identifier()
            return self._node(lambda _scope, item: member(item, name))
        raise self._unexpected(token)

    def _constant(self, value: Any) -> _Node:
        return self._node(lambda _scope, _item: value)

    def _name(self, token: Token) -> _Node:
        name = token.text
        if name in _LITERALS:
            return self._constant(_LITERALS[name])
        if name in PRECEDENCE:
            raise self._unexpected(token)
        if self._is("("):
            return self._call(token, self._functions)
        self.names.add(name)
        return self._node(lambda scope, _item: scope.get(name, UNDEFINED))

    def _items(self, closing: str) -> list[_Node]:
        items: list[_Node] = []
        if self._accept(closing):
            return items
        while True:
            items.append(self._conditional())
            if self._accept(closing):
                return items
            if not self._accept(","):
                found = self._peek()
                raise ExpressionError(f"expected `,` or `{closing}`, found {found.shown}", found.offset)

    def _list(self) -> _Node:
        items = self._items("]")
        runs = [item.run for item in items]

        def made(scope: Mapping[str, Any], item: Any) -> list[Any]:
            values = (run(scope, item) for run in runs)
            return [None if value is UNDEFINED else value for value in values]

        return self._node(made, *items)

    def _object(self) -> _Node:
        items: list[tuple[str, _Node]] = []
        closed = self._accept("}")
        while not closed:
            key = self._next()
            if key.kind not in ("name", "string"):
                raise ExpressionError(f"expected a key, found {key.shown}", key.offset)
            self._expect(":")
            items.append((unquote(key.text) if key.kind == "string" else key.text, self._conditional()))
            closed = self._accept("}")
            if not closed:
                self._expect(",")
        runs = [(key, node.run) for key, node in items]

        def made(scope: Mapping[str, Any], item: Any) -> dict[str, Any]:
            values = ((key, run(scope, item)) for key, run in runs)
            return {key: value for key, value in values if value is not UNDEFINED}

        return self._node(made, *(node for _, node in items))

    def _call(self, token: Token, known: Mapping[str, Function], *first: _Node) -> _Node:
        function = known.get(token.text)
        if function is None:
            near = difflib.get_close_matches(token.text, known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(sorted(known))}"
            raise ExpressionError(f"unknown function `{token.text}`{hint}", token.offset)
        self._expect("(")
        arguments = [*first, *self._items(")")]
        if not function.least <= len(arguments) <= function.most:
            takes = f"{function.least}" if function.least == function.most else f"{function.least} to {function.most}"
            problem = f"`{token.text}` takes {takes} arguments, not {len(arguments)}"
            raise ExpressionError(problem, token.offset)
        runs, call, offset = [node.run for node in arguments], function.call, token.offset

        def run(scope: Scope, item: Any) -> Any:
            try:
                value = call(*[argument(scope, item) for argument in runs])
            except OverflowError:
                raise _too_large(offset) from None
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise _too_large(offset)
            return value

        return self._node(run, *arguments)


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _member_of(value: Run, name: str) -> Run:
    return lambda scope, item: member(value(scope, item), name)


def _element_of(value: Run, key: Run) -> Run:
    return lambda scope, item: element(value(scope, item), key(scope, item))


def _filter(value: Run, condition: Run) -> Run:
    def run(scope: Scope, item: Any) -> Any:
        found = value(scope, item)
        if found is UNDEFINED or found is None:
            return []
        candidates = found if isinstance(found, list) else [found]
        return [candidate for candidate in candidates if truthy(condition(scope, candidate))]

    return run


def _too_large(offset: int) -> ExpressionError:
    return ExpressionError(f"the text would have more than {MAX_TEXT} characters", offset)
