"""Learning: programs that read and write files (`python -m models.<program> JOB.json`)."""

import signal
import sys

if (
    sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):  # as Python has it while it looks for the program that it is to run
    # An interruption ends a program as a kill does, even while it imports: whoever started it says
    # so, and training resumes exactly.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
