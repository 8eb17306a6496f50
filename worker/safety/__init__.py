"""Safety: tool results and documents are cleared of hidden characters, scanned and fenced before a model sees them."""
