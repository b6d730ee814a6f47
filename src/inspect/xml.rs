//! XML read safely: no entities beyond the five, bounded depth, within the budget.
