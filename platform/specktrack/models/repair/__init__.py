"""Networks that fill the gaps of a trajectory; they see positions, never a picture."""
