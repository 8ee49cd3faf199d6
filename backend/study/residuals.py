"""The residual stream of a study: means of responses, directions in it, and what these push the next token to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from backend.records import Direction, FloatArray, InputError
from backend.study.connection import Connection, IntArray, ascending, one_of, segment_codes, vector_of


@dataclass(frozen=True, eq=False)
class ResidualMeans:
    """Mean residual stream of every response at one layer, with the number of tokens behind each mean."""

    responses: tuple[str, ...]
    means: FloatArray  # (n, d_model)
    counts: IntArray  # (n,)


class Residuals(Connection):
    """The residual stream of a study."""

    def residual_layers(self, reader: str) -> list[int]:
        """Layers at which residual means are kept."""
        if not self._has("means"):
            return []
        return self._column(
            "SELECT DISTINCT layer FROM means WHERE reader = $reader ORDER BY layer", reader=self._organism(reader)
        )

    def residual_means(
        self, reader: str, layer: int, *, segment: str = "answer", responses: Sequence[str] | None = None
    ) -> ResidualMeans:
        """Means of every response that has tokens in the segment ("prompt" or "answer"), in order of the responses.

        `responses` keeps some responses only.
        """
        code = segment_codes(segment)["low"]
        if segment == "all":
            raise InputError("residual means are kept for the segments 'prompt' and 'answer'")
        reader_index = self._organism(reader)
        layers = self.residual_layers(reader)
        if not layers:
            none = np.zeros((0, 0), dtype=np.float32)
            return ResidualMeans((), none, np.zeros(0, dtype=np.int32))
        chosen = "" if responses is None else "AND list_contains($responses::INTEGER[], response)"
        some = {} if responses is None else {"responses": self._response_indices(responses)}
        frame = self._query(
            "SELECT response, mean FROM means "
            f"WHERE reader = $reader AND segment = $segment AND layer = $layer {chosen}",
            reader=reader_index,
            segment=code,
            layer=int(one_of(layer, layers, "layer")),
            **some,
        )
        counts = dict(
            self._query(
                f"SELECT response, n_{segment} FROM traces WHERE reader = $reader", reader=reader_index
            ).iter_rows()
        )
        indices, means = ascending(frame["response"].to_numpy(), frame["mean"].to_numpy())
        return ResidualMeans(
            tuple(self._ids[i] for i in indices), means, np.array([counts[i] for i in indices], dtype=np.int32)
        )

    def mean_stream(self, reader: str, *, responses: Sequence[str] | None = None) -> dict[int, FloatArray]:
        """Layer -> the mean residual stream (d_model,) over all answer tokens of the responses, as a reader read them.

        Empty where it read none of them. No end-of-turn token is in it, and no attention sink: that is of the prompt.
        """
        found = {}
        for layer in self.residual_layers(reader):
            read = self.residual_means(reader, layer, responses=responses)
            if read.counts.sum():
                found[layer] = np.average(read.means, axis=0, weights=read.counts).astype(np.float32)
        return found

    def mean_projections(
        self, direction: Direction, reader: str, *, responses: Sequence[str] | None = None
    ) -> dict[int, float]:
        """Layer -> the mean projection on the unit direction over all answer tokens, in residual units.

        What ablation to a mean leaves, and how far zero is from it. Raises InputError on a direction of another width.
        """
        stream = self.mean_stream(reader, responses=responses)
        if any(mean.shape != direction.vector.shape for mean in stream.values()):
            raise InputError(
                f"direction {direction.name!r} has {direction.vector.size} dimensions, and the residual stream of "
                f"study {self.name!r} another number: it comes from another model"
            )
        return {layer: float(mean @ direction.unit) for layer, mean in stream.items()}

    def activation_norm(self, reader: str) -> FloatArray:
        """Mean norm of the residual stream over all answer tokens, (layer,); empty where it was not measured."""
        frame = self._query(
            "SELECT sum(value * n_answer) / sum(n_answer) AS norm FROM norms JOIN traces USING (reader, response) "
            "WHERE reader = $reader GROUP BY layer ORDER BY layer",
            reader=self._organism(reader),
        )
        return frame["norm"].to_numpy().astype(np.float32)

    def directions(self) -> pl.DataFrame:
        """Frame of name, layer, norm, activation_norm, provenance (JSON)."""
        return self._query("SELECT name, layer, norm, activation_norm, provenance FROM directions ORDER BY rowid")

    def direction(self, name: str, layer: int) -> Direction:
        """One direction at one layer."""
        stack = {direction.layer: direction for direction in self.direction_stack(name)}
        return stack[one_of(layer, stack, f"layer of the direction {name!r}")]

    def direction_stack(self, name: str) -> list[Direction]:
        """A direction at all its layers, ascending."""
        known = one_of(name, self._direction_names, "direction")
        return _directions(self._query("FROM directions WHERE name = $name ORDER BY layer", name=known))

    def directions_near(self, layer: int) -> list[Direction]:
        """Every direction, once: at this layer, or at the nearest that it has, the lower of two."""
        return _directions(
            self._query(
                "FROM directions QUALIFY row_number() OVER (PARTITION BY name ORDER BY abs(layer - $layer), layer) = 1 "
                "ORDER BY rowid",
                layer=layer,
            )
        )

    def projections(self, response_id: str, reader: str) -> pl.DataFrame:
        """Frame of direction, layer, position, value: every token of a response on unit directions, in residual units.

        Empty where the study keeps none of it.
        """
        key = {"reader": self._organism(reader), "response": self._response(response_id)}
        if not self._has("projections"):
            schema = {"direction": pl.String, "layer": pl.Int32, "position": pl.Int32, "value": pl.Float32}
            return pl.DataFrame(schema=schema)
        return self._query(
            "SELECT direction, layer, position, value FROM projections WHERE reader = $reader AND response = $response "
            "ORDER BY direction, layer, position",
            **key,
        )

    def lens(self, name: str, layer: int) -> pl.DataFrame:
        """Frame of side ("top", "bottom"), rank, token, value: what a direction promotes and what it suppresses.

        Values are logits less their mean, in standard deviations over the vocabulary. Empty where the study has none.
        """
        return self._lens("direction", name, layer)

    def adapter_lens(self, organism: str, adapter: str) -> pl.DataFrame:
        """The same of an adapter's write vector; empty where it does not write to the residual stream."""
        return self._lens(f"adapter of {organism}", adapter, None)

    @cached_property
    def _direction_names(self) -> list[str]:
        return self._column("SELECT DISTINCT name FROM directions ORDER BY name")

    @cached_property
    def _lensed(self) -> set[tuple[str, str]]:
        """Kind and name of what has a lens."""
        if not self._has("lens"):
            return set()
        return set(self._query("SELECT DISTINCT kind, owner FROM lens").iter_rows())

    def _lens(self, kind: str, owner: str, layer: int | None) -> pl.DataFrame:
        if (kind, owner) not in self._lensed:
            return pl.DataFrame(schema={"side": pl.String, "rank": pl.Int32, "token": pl.String, "value": pl.Float64})
        return self._query(
            "SELECT side, rank, token, value FROM lens WHERE kind = $kind AND owner = $owner "
            "AND layer IS NOT DISTINCT FROM $layer::INTEGER ORDER BY side DESC, rank",
            kind=kind,
            owner=owner,
            layer=layer,
        )


def _directions(frame: pl.DataFrame) -> list[Direction]:
    return [
        Direction(r["name"], r["layer"], vector_of(r["vector"]), r["activation_norm"], json.loads(r["provenance"]))
        for r in frame.iter_rows(named=True)
    ]
