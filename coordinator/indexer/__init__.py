"""From chain events to the index: a pure reducer and what it folds into."""
