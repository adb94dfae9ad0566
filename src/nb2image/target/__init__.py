"""What a base can install and run, and which base fits a lock."""
