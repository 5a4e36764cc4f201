"""The fault campaign: rounds of planned faults against real processes, judged by an independent checker."""
