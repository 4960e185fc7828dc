"""Files that survive a kill, a shared store, sheets that spreadsheets open."""
