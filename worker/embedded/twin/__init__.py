"""The provider twin: a local server that speaks three wire formats, keeps books, and is wrong on command."""

from worker.embedded.twin.prices import TWIN_PRICES, TwinPrice
from worker.embedded.twin.server import Twin

__all__ = ["TWIN_PRICES", "Twin", "TwinPrice"]
