"""Straight lines through points."""


def line(points):
    """Least squares: at nought, per step, and the largest distance of a point from it."""
    if len({x for x, _ in points}) < 2:
        raise ValueError("a line takes two points at least")
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    step = (sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points))
    base = mean_y - step * mean_x
    return base, step, max(abs(y - base - step * x) for x, y in points)
