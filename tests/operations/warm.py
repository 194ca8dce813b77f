"""What the fork server imports once."""

import mooring.__main__
import mooring.cli
import mooring.courier.server
import mooring.migrations.runner
import mooring.operations.backup
import mooring.operations.cli
import mooring.operations.doctor
import mooring.operations.keys
import mooring.operations.restore

__all__ = ["mooring"]
