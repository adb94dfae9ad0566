"""One reader per lock format; each turns what it finds into `nb2image.lock.model.Lock`."""
