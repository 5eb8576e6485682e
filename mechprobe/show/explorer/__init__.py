"""The circuit explorer: close heads and MLP layers by a click and see what follows."""
