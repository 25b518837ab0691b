"""What a file is: encoding, layout, rows, and which files are of its kind."""
