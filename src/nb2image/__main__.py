"""``python -m nb2image``."""

from nb2image.cli import main

if __name__ == "__main__":
    main()
