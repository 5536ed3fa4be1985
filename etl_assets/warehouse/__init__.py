"""transformation → warehouse: schema `warehouse` in PostgreSQL. Facts keep every version, dimensions the latest."""
