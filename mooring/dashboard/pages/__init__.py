"""One module per page. Importing this package puts all of their routes into the table."""

from __future__ import annotations
