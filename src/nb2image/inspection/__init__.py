"""What is in an image: any image, not only those that nb2image built."""
