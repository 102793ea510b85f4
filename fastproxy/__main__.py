"""`python -m fastproxy` is the command `fastproxy`."""

import sys

from fastproxy.cli.main import main

sys.exit(main())
