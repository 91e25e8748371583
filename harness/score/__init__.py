"""From outcomes to cells, intervals and tests."""
