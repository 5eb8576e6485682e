"""Which components carry a behaviour: localisers, circuits, learned masks, searches on them."""
