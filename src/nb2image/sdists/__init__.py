"""Source distributions become wheels: what they need to be built, and the building."""
