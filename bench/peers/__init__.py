"""Programs to measure beside us, each as its package's documentation writes such a thing. Nothing of BitNexus is in them."""
