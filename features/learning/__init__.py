"""Events to what models learn from: training sequences and labels."""
