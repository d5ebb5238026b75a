"""Which shapes do scaling laws have? Each gives the model and the tokens that suit a budget of operations, some a loss.

With N parameters, D tokens and C = 6 N D operations of training (of active parameters, where only some of them are):

- additive: L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022), least at N = G (C / 6)^(beta / (alpha + beta)) with
  G = (alpha A / (beta B))^(1 / (alpha + beta));
- Kaplan's: L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D, with an allocation that was fitted apart;
- a table of optima, with equal ratios between its rows;
- a power of C for the tokens;
- a ratio of tokens to parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

FLOPS_PER_PARAMETER = 6.0
"""Of one token of training: 2 forward, 4 backward."""
PF_DAY_FLOPS = 8.64e19
LEAST_FLOPS, MOST_FLOPS = 1e-3, 1e60


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A published law: what it counts, where it is from, and the range of the runs behind it.

    `active_share` is the share of parameters that one token uses.
    """

    name: str
    title: str
    year: int
    counts: str
    source: str
    url: str
    note: str = ""
    runs_parameters: tuple[float, float] | None = None
    runs_tokens: tuple[float, float] | None = None
    runs_flops: tuple[float, float] | None = None
    active_share: float = 1.0

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        raise NotImplementedError

    def optimal_tokens(self, flops: float) -> float:
        """D that suits a budget of operations best.

        Example:
            >>> from weighbridge.predict.scaling_laws.laws import find_law
            >>> round(find_law("twenty").optimal_tokens(120 * 7e9**2) / 1e9, 3)
            140.0
        """
        return flops / (FLOPS_PER_PARAMETER * self.active_share * self.optimal_parameters(flops))

    def training_flops(self, parameters: float, tokens: float) -> float:
        """C of a run."""
        return FLOPS_PER_PARAMETER * self.active_share * parameters * tokens

    def flops_for_parameters(self, parameters: float) -> float:
        """The budget that so many parameters suit best."""
        return solve(self.optimal_parameters, parameters)

    def flops_for_tokens(self, tokens: float) -> float:
        """The budget that so many tokens suit best."""
        return solve(self.optimal_tokens, tokens)

    def loss(self, parameters: float, tokens: float) -> float | None:
        """The loss of a run, in nats a token; None where the law gives none."""
        return None

    def loss_with_plenty(self, parameters: float) -> float | None:
        """The loss with more tokens than the model can use; None where the law gives none."""
        return None

    def tokens_at(self, loss: float, parameters: float) -> float | None:
        """The tokens with which so many parameters reach a loss; None where they never do, or the law gives none."""
        return None


def solve(rising: Callable[[float], float], wanted: float) -> float:
    """Where a rising function of operations takes a value, by bisection of the logarithm.

    Example:
        >>> round(solve(lambda flops: flops**0.5, 1e10) / 1e20, 9)
        1.0
    """
    low, high = math.log(LEAST_FLOPS), math.log(MOST_FLOPS)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(math.exp(middle)) < wanted else (low, middle)
    return math.exp((low + high) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Additive(Law):
    """L = E + A / N^alpha + B / D^beta, E being `floor`.

    `covariance` is that of (log A, log B, log E, alpha, beta); `rmse` in nats and `relative_error` are what runs differ
    by; `repeated_tokens` and `repeated_parameters` are R* of repeated data and of parameters beyond it.
    """

    floor: float
    a: float
    alpha: float
    b: float
    beta: float
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    covariance: tuple[tuple[float, ...], ...] | None = None
    rmse: float | None = None
    relative_error: float | None = None
    repeated_tokens: float | None = None
    repeated_parameters: float | None = None

    @property
    def exponent(self) -> float:
        """That of the optimal parameters over operations.

        Example:
            >>> from weighbridge.predict.scaling_laws.laws import find_law
            >>> round(find_law("chinchilla-corrected").exponent, 4)
            0.5126
        """
        return self.beta / (self.alpha + self.beta)

    @property
    def balance(self) -> float:
        """G."""
        return float((self.alpha * self.a / (self.beta * self.b)) ** (1.0 / (self.alpha + self.beta)))

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        return float(self.balance * (flops / (FLOPS_PER_PARAMETER * self.active_share)) ** self.exponent)

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss of a run, in nats a token."""
        return float(self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def loss_with_plenty(self, parameters: float) -> float:
        """E + A / N^alpha."""
        return float(self.floor + self.a / parameters**self.alpha)

    def tokens_at(self, loss: float, parameters: float) -> float | None:
        """The tokens with which so many parameters reach a loss."""
        left = loss - self.floor - self.a / parameters**self.alpha
        return None if left <= 0 else math.exp(min(math.log(self.b / left) / self.beta, 300.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOfOne:
    """L = (scale / x)^exponent, of one quantity where the others do not hold it back."""

    scale: float
    exponent: float

    def loss(self, x: float) -> float:
        """The loss at x."""
        return float((self.scale / x) ** self.exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kaplan(Law):
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D, and an allocation in powers of PF-days.

    `alone` has the powers of parameters, tokens and operations where the others are plenty. Parameters and tokens of
    the allocation are printed each for itself: 6 N D is not C.
    """

    n_c_parameters: float
    alpha_n: float
    d_c_tokens: float
    alpha_d: float
    parameters_at_one_pf_day: float
    parameters_exponent: float
    tokens_at_one_pf_day: float
    tokens_exponent: float
    alone: Mapping[str, PowerOfOne]

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        return float(self.parameters_at_one_pf_day * (flops / PF_DAY_FLOPS) ** self.parameters_exponent)

    def optimal_tokens(self, flops: float) -> float:
        """D that suits a budget of operations best."""
        return float(self.tokens_at_one_pf_day * (flops / PF_DAY_FLOPS) ** self.tokens_exponent)

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss of a run, in nats a token."""
        size = (self.n_c_parameters / parameters) ** (self.alpha_n / self.alpha_d)
        return float((size + self.d_c_tokens / tokens) ** self.alpha_d)

    def loss_with_plenty(self, parameters: float) -> float:
        """That of the power of parameters alone."""
        return self.alone["parameters"].loss(parameters)

    def tokens_at(self, loss: float, parameters: float) -> float | None:
        """The tokens with which so many parameters reach a loss."""
        left = loss ** (1.0 / self.alpha_d) - (self.n_c_parameters / parameters) ** (self.alpha_n / self.alpha_d)
        return None if left <= 0 else float(self.d_c_tokens / left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Law):
    """Published optima: operations, parameters, tokens."""

    points: tuple[tuple[float, float, float], ...]

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        above = next((i for i, row in enumerate(self.points) if row[0] >= flops), len(self.points) - 1)
        first, second = self.points[max(0, above - 1)], self.points[max(1, above)]
        share = math.log(flops / first[0]) / math.log(second[0] / first[0])
        return float(first[1] * (second[1] / first[1]) ** share)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOfTokens(Law):
    """D = coefficient C^exponent."""

    tokens_coefficient: float
    tokens_exponent: float

    def optimal_tokens(self, flops: float) -> float:
        """D that suits a budget of operations best."""
        return float(self.tokens_coefficient * flops**self.tokens_exponent)

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        return flops / (FLOPS_PER_PARAMETER * self.optimal_tokens(flops))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(Law):
    """D = r N."""

    tokens_per_parameter: float
    low_tokens_per_parameter: float
    high_tokens_per_parameter: float

    def optimal_parameters(self, flops: float) -> float:
        """N that suits a budget of operations best."""
        return math.sqrt(flops / (FLOPS_PER_PARAMETER * self.tokens_per_parameter))


FORMS: Mapping[str, type[Law]] = {"additive": Additive, "kaplan": Kaplan, "table": Table, "power": PowerOfTokens,
                                  "ratio": Ratio}  # fmt: skip
