"""The constants that ship with the program, and how sure they are."""

from __future__ import annotations

from functools import cache

import numpy as np

from control_plane.catalogue.architectures import architectures, known
from control_plane.catalogue.engine_constants import engine_constants
from control_plane.decisions.performance.constants import from_mapping
from control_plane.decisions.performance.intervals import Knowledge
from control_plane.decisions.performance.similar import like_its_name
from control_plane.model.architecture import Architecture


@cache
def knowledge() -> Knowledge:
    """This will give the constants that ship."""
    shipped = engine_constants()
    constants = from_mapping(dict(zip(shipped["names"], shipped["values"], strict=True)))
    return Knowledge(constants=constants, covariance=np.array(shipped["covariance"], dtype=np.float64))


def model_of(name: str) -> Architecture | None:
    """This will give a known model, or one of the size that its name says; None when it says none."""
    return known(name) or like_its_name(name, architectures().values())
