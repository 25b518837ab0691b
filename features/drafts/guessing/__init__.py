"""What the rows of a file mean: which values are the user, the time, the action, the item."""
