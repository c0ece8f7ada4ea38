"""Logits become tokens: ways to choose, rules to stop, and the one loop for many streams."""

from eardrop.search.batch import Batch, Look, Task
from eardrop.search.choice import Choice, Mask, Search
from eardrop.search.forced import Forced
from eardrop.search.greedy import Greedy
from eardrop.search.sample import Sample
from eardrop.search.stop import Finish, Stop

__all__ = ["Batch", "Choice", "Finish", "Forced", "Greedy", "Look", "Mask", "Sample", "Search", "Stop", "Task"]
