"""Prefect and the command line around DVC's graph: no maths, no torch.

Prefect reports each flow's definition to its makers when it is imported, and its server does so once a day. Both are
switched off here, before any module below can import it; whoever wants them sets the variables themselves.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
