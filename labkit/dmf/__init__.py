"""Dynamic Meta-Filter, section 4 of the paper: model, alignment, sampling and the intermediate results."""
