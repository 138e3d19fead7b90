"""How far an evaluator's ranking can be trusted, measured against training from scratch."""
