"""What commands have in common: options, completion, logs and progress."""
