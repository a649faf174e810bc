"""Four UNets on Oxford-IIIT Pet and two conditional VAEs that are asked to draw the wrong label.

Importing the package loads nothing heavy: torch and Lightning wait until a module that needs them is imported.
"""

__version__ = "0.1.0"
