"""How many go where: to the lowest, by lot, by shares. Counts are whole, and nobody is lost."""

import math


class Broken(Exception):
    """The simulation does what can't be."""


def fill(levels, count):
    """Shares by which so many go to the lowest, one after the other, as least connections has it."""
    order = sorted(range(len(levels)), key=levels.__getitem__)
    shares, used, sum_of_used = [0] * len(levels), 0, 0
    # As many of the lowest as can be brought to one level.
    for index in order:
        if used and levels[index] * used - sum_of_used >= count:
            break
        used, sum_of_used = used + 1, sum_of_used + levels[index]
    level, rest = divmod(count + sum_of_used, used)
    for place, index in enumerate(order[:used]):
        shares[index] = level + (place < rest) - levels[index]
    return shares


def add(some, kind, count):
    some[kind] = some.get(kind, 0) + count


def take(source, count, target, dice):
    """Moves so many, by the kinds' shares, from one to the other; what doesn't divide goes by lot."""
    total = sum(source.values())
    if count > total:
        raise Broken(f"{count} of {total}")
    if len(source) == 1 or count == total:
        shares = dict(source) if count == total else {next(iter(source)): count}
    else:
        shares = {kind: have * count // total for kind, have in source.items()}
        for _ in range(count - sum(shares.values())):
            kinds = [kind for kind in source if source[kind] > shares[kind]]
            (kind,) = dice.choices(kinds, [source[kind] * count / total - shares[kind] + 0.01 for kind in kinds])
            shares[kind] += 1
    for kind, share in shares.items():
        if share:
            add(target, kind, share)
            source[kind] -= share
            if not source[kind]:
                del source[kind]


def binomial(dice, count, chance):
    """How many of so many; from thirty on by the bell curve."""
    if chance >= 1:
        return count
    mean = count * chance
    if mean > 30:
        return min(max(round(dice.gauss(mean, math.sqrt(mean * (1 - chance)))), 0), count)
    found, at, scale = 0, 0.0, math.log1p(-chance)
    # From one that is to the next, since they are few.
    while (at := at + math.floor(math.log(1 - dice.random()) / scale) + 1) <= count:
        found += 1
    return found
