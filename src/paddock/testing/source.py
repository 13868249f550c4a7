"""The conformance suite of model sources. Needs the packages pytest and pytest-asyncio.

::

    class TestMine(ModelSourceSuite):
        model = "org/tiny"          # can be fetched, and is not there yet

        @pytest.fixture
        def source(self):
            return Mine()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from paddock.contracts.providers import Freed, Health, ModelSource, Progress
from paddock.errors import BadName, BadRequest, ModelNotFound, PaddockError

__all__ = ["ModelSourceSuite"]


class ModelSourceSuite:
    """What holds for every model source. Override the fixture `source`, and `model` with one that can be fetched."""

    model = "org/tiny"
    unknown_model = "org/there-is-none"

    @pytest.fixture
    def source(self) -> ModelSource:
        """The source to test, with nothing fetched."""
        raise NotImplementedError("override the fixture `source`")

    async def _pulled(self, source: ModelSource, model: str) -> list[Progress]:
        pull = cast("AsyncGenerator[Progress, None]", source.pull(model))
        async with aclosing(pull):
            return [progress async for progress in pull]

    async def _names(self, source: ModelSource) -> list[str]:
        return [model.id for model in await source.catalogue()]

    async def test_what_was_fetched_is_listed_shown_and_deleted(self, source: ModelSource) -> None:
        """If this fails, the catalogue is stale after a pull or a deletion, or names models in another way than `pull`."""
        assert self.model not in await self._names(source)
        await self._pulled(source, self.model)
        [listed] = [model for model in await source.catalogue() if model.id == self.model]
        assert listed.owned_by
        assert listed.size
        assert await source.show(self.model)
        freed = await source.delete(self.model)
        assert isinstance(freed, Freed)
        assert freed.size >= listed.size
        assert self.model not in await self._names(source)

    async def test_progress_never_exceeds_its_total(self, source: ModelSource) -> None:
        """If this fails, bytes are counted twice, or the total is that of something else."""
        found = await self._pulled(source, self.model)
        assert found
        assert all(0 <= one.completed <= (one.total if one.total is not None else one.completed) for one in found)

    async def test_a_pull_that_is_closed_leaves_no_model(self, source: ModelSource) -> None:
        """If this fails, closing the iterator does not end the work, or half a model is shown as one."""
        pull = cast("AsyncGenerator[Progress, None]", source.pull(self.model))
        await anext(pull)
        await pull.aclose()
        assert self.model not in await self._names(source)
        await self._pulled(source, self.model)
        assert self.model in await self._names(source)

    async def test_two_pulls_at_the_same_time_both_end(self, source: ModelSource) -> None:
        """If this fails, one pull breaks the other's files, or waits for it for ever."""
        await asyncio.gather(*(self._pulled(source, self.model) for _ in range(2)))
        assert self.model in await self._names(source)

    async def test_an_unknown_model_is_not_found(self, source: ModelSource) -> None:
        """If this fails, the registry's own words reach the caller, or nothing is said at all."""
        with pytest.raises(ModelNotFound):
            await self._pulled(source, self.unknown_model)
        for call in (source.show, source.delete):
            with pytest.raises(ModelNotFound):
                await call(self.unknown_model)

    @pytest.mark.parametrize("model", ["", "a\nb", "x" * 10_000], ids=["empty", "two lines", "long"])
    async def test_what_can_be_no_name_is_refused(self, source: ModelSource, model: str) -> None:
        """If this fails, a hostile name reaches a path or a request."""
        for call in (source.show, source.delete):
            with pytest.raises(BadName):
                await call(model)
        with pytest.raises(BadName):
            await self._pulled(source, model)

    async def test_sizes_and_quantizations_are_told_or_refused(self, source: ModelSource) -> None:
        """If this fails, a guess is told as a size, or an error is none of ours."""
        size = await source.size(self.model)
        assert size is None or size > 0
        try:
            found = await source.quantizations(self.model)
        except PaddockError as error:
            assert isinstance(error, BadRequest)  # noqa: PT017  a source that lists none says so
        else:
            assert [one.size for one in found] == sorted(one.size for one in found)

    async def test_health_is_told_and_close_may_be_called(self, source: ModelSource) -> None:
        """If this fails, health raises instead of telling, or close is not harmless."""
        assert isinstance(await source.health(), Health)
        await source.close()
