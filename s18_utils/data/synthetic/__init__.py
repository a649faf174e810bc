"""Data sets drawn by the package itself, for when no real data can be reached.

`pets` stands in for Oxford-IIIT Pet, `digits` for MNIST and `objects` for CIFAR-10: same shapes, same classes
or as many, hard enough that training on them teaches something. The same arguments give the same bytes, and
the first images of a large set are those of a smaller one.
"""

from s18_utils.data.synthetic.digits import DIGIT_CLASSES, digits
from s18_utils.data.synthetic.objects import OBJECT_CLASSES, objects
from s18_utils.data.synthetic.pets import pets

VERSION = 1  # goes up whenever a drawing changes, so that stores made from an older one are noticed

__all__ = ["DIGIT_CLASSES", "OBJECT_CLASSES", "VERSION", "digits", "objects", "pets"]
