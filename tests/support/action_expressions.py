"""The part of GitHub's expressions that our actions use; anything else is an error.

Its rules are those of docs.github.com, "Evaluate expressions in workflows and actions".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN = re.compile(r"\s*(?P<token>'[^']*'|&&|\|\||==|!=|!|\(|\)|[A-Za-z_][\w.-]*)")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STATUS = re.compile(r"\b(?:always|failure|success)\(\)")

Value = str | bool


@dataclass
class Context:
    """What an expression may read.

    Attributes:
        inputs: Inputs of the action.
        outputs: Outputs of the steps, by their ids.
        outcomes: How they have ended: success, failure or skipped.
        failed: Whether a step has failed.
    """

    inputs: Mapping[str, str]
    outputs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    def value(self, name: str) -> Value:
        """The value of a name, such as `inputs.base`; raises ValueError for an unknown one."""
        match name.split("."):
            case ["inputs", key] if key in self.inputs:
                return self.inputs[key]
            case ["steps", step, "outputs", key] if step in self.outcomes:
                return self.outputs.get(step, {}).get(key, "")
            case ["steps", step, "outcome"] if step in self.outcomes:
                return self.outcomes[step]
        raise ValueError(f"nothing is known of {name}")

    def status(self, name: str) -> bool:
        """What `always()` and its like say."""
        known = {"always": True, "failure": self.failed, "success": not self.failed}
        if name not in known:
            raise ValueError(f"{name}() is unknown")
        return known[name]

    def is_wanted(self, condition: str) -> bool:
        """Whether a step with this `if` runs."""
        if not STATUS.search(condition):
            condition = f"success() && ({condition})" if condition else "success()"
        return bool(evaluate(condition, self))

    def fill(self, text: str) -> str:
        """`text` with the values of its expressions."""
        return EXPRESSION.sub(lambda found: _text(evaluate(found[1], self)), text)


def evaluate(expression: str, context: Context) -> Value:
    """The value of an expression; raises ValueError for what is not known here."""
    tokens: list[str] = []
    rest = expression.rstrip()
    while rest:
        found = TOKEN.match(rest)
        if not found:
            raise ValueError(f"not understood: {rest}")
        tokens.append(found["token"])
        rest = rest[found.end() :]
    parser = _Parser(tokens, context)
    value = parser.either()
    if parser.tokens:
        raise ValueError(f"not understood: {' '.join(parser.tokens)}")
    return value


class _Parser:
    def __init__(self, tokens: list[str], context: Context) -> None:
        self.tokens = tokens
        self._context = context

    def either(self) -> Value:
        value = self._both()
        while self._next("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Value:
        value = self._comparison()
        while self._next("&&"):
            other = self._comparison()
            value = other if value else value
        return value

    def _comparison(self) -> Value:
        value = self._single()
        if self._next("=="):
            return _folded(value) == _folded(self._single())
        if self._next("!="):
            return _folded(value) != _folded(self._single())
        return value

    def _single(self) -> Value:
        if self._next("!"):
            return not self._single()
        if self._next("("):
            value = self.either()
            if not self._next(")"):
                raise ValueError("a parenthesis is open")
            return value
        if not self.tokens:
            raise ValueError("it ends early")
        token = self.tokens.pop(0)
        if token.startswith("'"):
            return token[1:-1]
        if self._next("("):
            if not self._next(")"):
                raise ValueError(f"{token}() takes nothing")
            return self._context.status(token)
        return self._context.value(token)

    def _next(self, token: str) -> bool:
        if self.tokens[:1] != [token]:
            return False
        del self.tokens[0]
        return True


def _folded(value: Value) -> Value:
    return value.casefold() if isinstance(value, str) else value


def _text(value: Value) -> str:
    return value if isinstance(value, str) else str(value).lower()
