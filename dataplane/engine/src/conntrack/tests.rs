//! The table's promises: nothing lost, nothing twice, counts that add up.
