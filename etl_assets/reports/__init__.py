"""Questions to the warehouse, one `.sql` file each, how their answers are drawn, and the page of them all."""
