"""Every task, in every kind of bad weather: ``outcomes.tsv`` says what comes of it, and the books are counted."""
