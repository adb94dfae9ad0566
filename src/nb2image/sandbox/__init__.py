"""Places where code of strangers may run: without network, as nobody, with one folder to write into."""
