"""How an answer is marked: what a model is asked, and what of its marks can be used. Decided by code, without rows."""
