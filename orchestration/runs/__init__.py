"""What goes with every run: its pools, the process that carries it, its failures and retries."""
