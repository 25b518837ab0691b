"""What a long-lived service reads of the feature store: services, attributes, counts of reads."""
