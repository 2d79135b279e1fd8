"""stub"""

from typing import Any


def check_self(seed: int = 0) -> Any: ...
