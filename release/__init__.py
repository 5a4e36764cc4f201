"""The parts of a release: image, locks and changes, and the programs that build and check them."""
