"""Public-key building blocks that need no torch: hashing to a curve, and masking with a secret scalar."""
