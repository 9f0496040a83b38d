"""An H&E image as pixels by region at any µm/px, whatever the file; the cache of tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stzoo.core.runtime.public import offer

if TYPE_CHECKING:
    from stzoo.core.slides.base import ArraySource as ArraySource
    from stzoo.core.slides.base import Source as Source
    from stzoo.core.slides.base import to_rgb as to_rgb
    from stzoo.core.slides.resampling import resample as resample
    from stzoo.core.slides.slide import Slide as Slide
    from stzoo.core.slides.stain import haematoxylin as haematoxylin
    from stzoo.core.slides.tile_cache import Spots as Spots
    from stzoo.core.slides.tile_cache import cache_folder as cache_folder
    from stzoo.core.slides.tile_cache import cache_rows as cache_rows
    from stzoo.core.slides.tile_cache import drop_own_cache as drop_own_cache
    from stzoo.core.slides.tile_cache import tile_rows as tile_rows

_HOMES = {
    "ArraySource": "base",
    "Slide": "slide",
    "Source": "base",
    "Spots": "tile_cache",
    "cache_folder": "tile_cache",
    "cache_rows": "tile_cache",
    "drop_own_cache": "tile_cache",
    "haematoxylin": "stain",
    "resample": "resampling",
    "tile_rows": "tile_cache",
    "to_rgb": "base",
}

__all__ = sorted(_HOMES)
__getattr__ = offer(__name__, _HOMES)
