"""Tables, and what all figures share."""
