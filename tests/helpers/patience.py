"""Scale the time limits of tests for a busy machine: CLINGPT_TEST_PATIENCE=4 quadruples them."""

import os

PATIENCE = float(os.environ.get("CLINGPT_TEST_PATIENCE", "1"))
