"""Random cases shared by the tests of the pooling ops."""

from __future__ import annotations

from hypothesis import strategies as st

FORMS = ("int", "per axis", "pairs", "same", "valid")  # the ways to write padding


@st.composite
def pooling_cases(draw, axes=2, dilated=False, forms=FORMS):
    """Draw the shape of x and the keyword arguments of a pooling op that accepts it."""
    kernel = [draw(st.integers(1, 5)) for _ in range(axes)]
    dilation = [draw(st.integers(1, 3)) if dilated else 1 for _ in range(axes)]
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    form = draw(st.sampled_from(forms))
    if form == "int":
        pads = [(draw(st.integers(0, min(extent) // 2)),) * 2] * axes
        padding = pads[0][0]
    elif form == "per axis":
        pads = [(draw(st.integers(0, e // 2)),) * 2 for e in extent]
        padding = tuple(before for before, _ in pads)
    elif form == "pairs":
        pads = [tuple(draw(st.integers(0, e // 2)) for _ in range(2)) for e in extent]
        padding = tuple(pads)
    else:
        pads = [(e // 2, e // 2) if form == "same" else (0, 0) for e in extent]
        padding = form
    # The smallest image that every window touches, and up to 40 pixels more: vectors and a rest.
    least = [max(1, d, e - sum(p)) for d, e, p in zip(dilation, extent, pads, strict=True)]
    spatial = [low + draw(st.integers(0, 40)) for low in least]
    arguments = {"kernel_size": tuple(kernel), "padding": padding, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        arguments["stride"] = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    if dilated:
        arguments["dilation"] = tuple(dilation)
    return (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *spatial), arguments
