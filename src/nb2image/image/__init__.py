"""An image as a value, and the outputs that write any of them."""
