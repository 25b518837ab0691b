"""What a training process runs on: configuration, device, ranks, progress reporting."""
