# Tags of a trait that the page sets. Without an echo: an old one, which comes while the hand moves on, would be taken for Python's, and undo what the
# hand has done since.
MINE = {"sync": True, "echo_update": False}
