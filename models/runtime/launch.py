"""Starts a program of this room as several ranks on this machine, by torchrun.

    python -m models.runtime.launch RANKS MODULE JOB.json

The same as `python -m torch.distributed.run --standalone --nproc_per_node RANKS -m MODULE ...`,
but for one thing: it dies with its parent, and so do the ranks with it.
"""

import sys

from torch.distributed.run import main

from models.runtime.report import die_with_parent

if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[1].isdigit():
        sys.stderr.write("expected three arguments: RANKS MODULE JOB.json\n")
        sys.exit(2)
    die_with_parent()
    main(["--standalone", "--nproc_per_node", sys.argv[1], "-m", *sys.argv[2:]])
