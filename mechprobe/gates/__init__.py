"""What stands in a closed gate's place, and the reference path that applies gates by hooks."""
