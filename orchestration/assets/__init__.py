"""The assets of one data set, one file a group of them."""
