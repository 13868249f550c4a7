"""The kit for plugin authors: fakes that are real plugins, and a conformance suite for each contract."""
