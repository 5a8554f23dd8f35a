"""The command of `make run`."""

import sys

try:
    from devtools.local.command import main
except KeyboardInterrupt:  # Ctrl-C while the parts are imported
    sys.exit(130)

sys.exit(main())
