"""What people read: `results.json` and the outcomes of a run become one offline HTML folder and a terminal table."""
