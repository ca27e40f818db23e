"""Networks: the zoo that names them, checkpoints that hold them, and a folder for each family."""
