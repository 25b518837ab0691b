"""What goes with every run: the pools that it holds, the process that carries it."""
