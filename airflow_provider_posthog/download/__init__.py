"""Files over HTTP: one file resumed and proved whole, and the files of a file download."""
