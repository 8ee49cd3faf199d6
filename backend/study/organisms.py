"""Who is in a study: its organisms, their adapters, and what each of them read."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from backend.records import Adapter, FloatArray
from backend.study.connection import Connection, one_of, vector_of


class Organisms(Connection):
    """The organisms of a study."""

    def organisms(self) -> pl.DataFrame:
        """Frame of organism, base, n_adapters, record (JSON)."""
        return self._query(
            "SELECT name AS organism, base, (SELECT count(*) FROM adapters a WHERE a.organism = o.organism) AS "
            "n_adapters, record FROM organisms o ORDER BY o.organism"
        )

    def altered(self, organism: str) -> frozenset[str]:
        """The adapters whose writes the model changes, as by a norm, before they reach the residual stream.

        Their write vectors are no directions of the stream. None in studies built before this was recorded.
        """
        return frozenset(self.info.get("altered", {}).get(organism, ()))

    def adapters(self, organism: str) -> pl.DataFrame:
        """Frame of index, name, layer, module, component, scaling, write_norm, in the row order of its traces."""
        return self._query(
            "SELECT adapter AS index, name, layer, module, component, scaling, write_norm FROM adapters "
            "WHERE organism = $organism ORDER BY adapter",
            organism=self._organism(organism),
        )

    def adapter(self, organism: str, name: str) -> Adapter:
        """One adapter with its read and write vectors."""
        row = self._query(
            "SELECT * FROM adapters WHERE organism = $organism AND adapter = $adapter",
            organism=self._organism(organism),
            adapter=self._adapter_indices(organism, [name])[0],
        ).row(0, named=True)
        plain = {key: row[key] for key in ("name", "layer", "module", "component", "scaling")}
        return Adapter(**plain, read=vector_of(row["read_vector"]), write=vector_of(row["write_vector"]))

    def adapter_vectors(self, organism: str, names: Sequence[str], side: str) -> list[FloatArray]:
        """The "read" or "write" vectors of some adapters, in the order of the names; empty where not released."""
        column = f"{one_of(side, ('read', 'write'), 'side of an adapter')}_vector"
        indices = self._adapter_indices(organism, names)
        frame = self._query(
            f"SELECT adapter, {column} FROM adapters WHERE organism = $organism "
            "AND list_contains($adapters::INTEGER[], adapter)",
            organism=self._organism(organism),
            adapters=indices,
        )
        found = dict(frame.iter_rows())
        return [vector_of(found[index]) for index in indices]

    def readings(self, reader: str) -> pl.DataFrame:
        """Frame of response, n_prompt, n_answer (tokens): what `reader` read, in the order of the responses."""
        return self._query(
            "SELECT response, n_prompt, n_answer FROM traces WHERE reader = $reader ORDER BY response",
            reader=self._organism(reader),
        ).with_columns(self._named("response"))
