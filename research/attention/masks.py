"""The only place where segments, padding and causality become one boolean mask."""

from research.shapes import Array, Places


def readable(query_places: Places, key_places: Places, *, causal: bool = False) -> Array:
    """Which positions each query may read: those of its own segment and, when causal, none that come later.

        mask[b, t, s] = segment_q[b, t] == segment_k[b, s]  and  segment_q[b, t] > 0
                        and, when causal, position_k[b, s] <= position_q[b, t]

    Positions are absolute, so a query that is read alone, long after its keys were stored, needs no offset.

        segments 1 1 2 0    full     causal        rows t = 0..3, columns s = 0..3; the last one is a pad:
                            # # . .  # . . .       it reads nothing and nothing reads it
                            # # . .  # # . .
                            . . # .  . . # .
                            . . . .  . . . .

    Args:
      query_places: of the queries, int32 [B, T] each.
      key_places: of what is read, int32 [B, S] each.
      causal: whether later positions are hidden.

    Returns:
      boolean [B, T, S], True = may be read.
    """
    segment = query_places.segment[:, :, None]
    mask = (segment == key_places.segment[:, None, :]) & (segment > 0)
    if causal:
        mask &= key_places.position[:, None, :] <= query_places.position[:, :, None]
    return mask
