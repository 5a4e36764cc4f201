"""Work-arounds for faults of libraries; each names its upstream issue and when it can go."""
