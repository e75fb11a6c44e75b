"""What arms agree in: a free size is solved for, so that a bigger or a dearer one does not win by that alone."""

from collections.abc import Callable

from research.errors import UserError

LARGEST = 1 << 16  # sizes that are tried


def solve(cost: Callable[[int], float], target: float, tolerance: float, what: str, multiple: int = 1) -> int:
    """The whole number whose cost is nearest to a target; costs rise with it.

        size = argmin over k multiple of |cost(k multiple) - target|

    Args:
      cost: of a size.
      target: what it is to be.
      tolerance: 0.01 = at most 1 % off.
      what: whose size of what, for the message.
      multiple: sizes are multiples of it: of the heads that share a width.

    Raises:
      UserError: no size comes within the tolerance.
    """
    low, high = 1, 1
    while cost(high * multiple) < target and high * multiple < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:  # cost(low) < target <= cost(high), or low is 1
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle * multiple) < target else (low, middle)
    best = min((low, high), key=lambda size: abs(cost(size * multiple) - target)) * multiple
    off = cost(best) / target - 1
    if abs(off) > tolerance:
        raise UserError(f'{what} cannot meet the budget: at the nearest size, {best}, it has {cost(best):,.0f} where '
                        f'the base has {target:,.0f} ({100 * off:+.1f} %, and at most {100 * tolerance:g} % is '
                        'allowed). Give it another free size, or declare no budget: then it is marked')
    return best
