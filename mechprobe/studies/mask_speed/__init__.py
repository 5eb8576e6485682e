"""How fast gate vectors run, beside what a user would use instead (``mechprobe bench masks``)."""
