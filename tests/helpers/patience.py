"""How long tests wait on a busy machine: CLINGPT_TEST_PATIENCE=4 multiplies every time limit by four."""

import os

PATIENCE = float(os.environ.get("CLINGPT_TEST_PATIENCE", "1"))
