"""Conditional VAEs that are asked to draw the wrong label, the networks that read their drawings, and the scores."""
