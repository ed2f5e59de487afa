"""The one image that every backend boots: built rootless from Debian packages, and cached."""

from vbench.image.cache import directory as cache_dir
from vbench.image.images import ensure, ensure_hosting, source_of
from vbench.image.installed import Installed, installed, remove, remove_unused, table
from vbench.image.transfer import export_images, import_images

__all__ = [
    "Installed",
    "cache_dir",
    "ensure",
    "ensure_hosting",
    "export_images",
    "import_images",
    "installed",
    "remove",
    "remove_unused",
    "source_of",
    "table",
]
