"""`dagster dev` whose webserver is ours: what `footpath ui` becomes.

python -m orchestration.production.ui -w workspace.yaml --host 127.0.0.1 --port 3000
"""

import sys

from orchestration.dagster_private import develop
from orchestration.production.addresses import WEBSERVER_MODULE

if __name__ == "__main__":
    develop(sys.argv[1:], WEBSERVER_MODULE)
