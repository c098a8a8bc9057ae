"""What the papers claim, as statements that a number decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..configs.load import ConfigError, explain, read_any_yaml
from ..settings import Settings

SHIPPED = Path(__file__).with_name("claims.yaml")

Text = Annotated[str, Field(min_length=1)]


class Claim(Settings):
    """One statement about an effect.

    The effect is a number of one subject, the difference or the ratio of two subjects, or the rank correlation of two
    quantities over all subjects.

    Attributes:
        name: unique.
        claim: which claim of which paper.
        statement: the same in words.
        study: whose summary decides it.
        quantity: the number that decides.
        left: the subject that has it.
        right: the subject that the left one is compared with.
        compare: ``difference`` is left − right, ``ratio`` left / right, ``value`` left itself.
        correlate: two quantities, in place of the four keys before: the effect is Spearman's rank correlation.
        claimed: on which side of the margin the effect is said to lie. ``within`` is −margin to margin, of a ratio
            1/margin to margin.
        margin: the least effect that matters.
        unit: of the effect and the margin; empty where it has none.
    """

    name: Text
    claim: Text
    statement: Text
    study: Text
    quantity: Text | None = None
    left: Text | None = None
    right: Text | None = None
    compare: Literal["difference", "ratio", "value"] = "difference"
    correlate: tuple[Text, Text] | None = None
    claimed: Literal["above", "below", "within"]
    margin: float
    unit: str = ""

    @property
    def on_claimed_side(self) -> tuple[float, float]:
        """The open interval of effects for which the claim holds."""
        if self.claimed == "above":
            return self.margin, float("inf")
        if self.claimed == "below":
            return float("-inf"), self.margin
        return (1 / self.margin if self.compare == "ratio" else -self.margin), self.margin

    @model_validator(mode="after")
    def _one_kind_of_effect(self) -> Self:
        if self.correlate:
            given = self.model_fields_set & {"quantity", "left", "right", "compare"}
            if given:
                raise ValueError(f"correlate: leave out {', '.join(sorted(given))}")
        elif not (self.quantity and self.left):
            raise ValueError("quantity: give quantity and left, or correlate")
        elif (self.compare == "value") == bool(self.right):
            raise ValueError("right: give it where two subjects are compared, and leave it out with compare: value")
        return self

    @model_validator(mode="after")
    def _margin_fits(self) -> Self:
        if self.claimed == "within" and self.margin <= (self.compare == "ratio"):
            raise ValueError("margin: within needs one above 0, and above 1 for a ratio")
        if self.correlate and not -1 < self.margin < 1:
            raise ValueError("margin: of a correlation it lies between -1 and 1")
        return self


def load_claims(path: Path = SHIPPED) -> list[Claim]:
    """Read a list of claims.

    Raises:
        ConfigError: the file cannot be read, or a claim is wrong; the message names the file, the claim and the key.
    """
    values = read_any_yaml(path)
    if not isinstance(values, list) or not values:
        raise ConfigError(str(path), ["should be a list of claims, each beginning with - name:"])
    claims = [_parse(path, number, value) for number, value in enumerate(values, start=1)]
    name, count = Counter(claim.name for claim in claims).most_common(1)[0]
    if count > 1:
        raise ConfigError(str(path), [f"claim {name}: there are two of this name"])
    return claims


def _parse(path: Path, number: int, value: Any) -> Claim:
    name = value.get("name", number) if isinstance(value, dict) else number
    try:
        return Claim.model_validate(value)
    except ValidationError as error:
        raise ConfigError(f"{path}: claim {name}", explain(error)) from None
