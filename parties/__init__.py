"""Who runs where: the two roles, and the grids that carry messages between them."""
