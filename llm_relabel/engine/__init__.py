"""The verbs over a job and its run: a file each."""
