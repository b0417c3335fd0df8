"""What broker and PostgreSQL say of partitions that the group gave us, before they flow."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from penstock_consumer.errors import SourceUnavailable
from penstock_consumer.interfaces import Inspected, PartitionState, Sink, Source, TopicPartition
from penstock_consumer.placement import ACCEPT
from penstock_consumer.settings import WorkerSettings
from penstock_store.errors import TopicRecreated
from penstock_store.ingest import Claim, PartitionRef

__all__ = ["Claiming", "name_of", "names_of"]

log = structlog.get_logger(__name__)

Claims = Mapping[TopicPartition, Claim]


class Claiming:
    """`refuse` is told of each partition that an operator has to decide about, and why."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        settings: WorkerSettings,
        refuse: Callable[[TopicPartition, str], None],
    ) -> None:
        self._source = source
        self._sink = sink
        self._settings = settings
        self._refuse = refuse

    async def claim(self, partitions: Sequence[TopicPartition]) -> tuple[Inspected, Claims]:
        """The broker's word on each, and claims of those that it knows and that are not refused. Raises what
        source and sink do.
        """
        found = await self._source.inspect(partitions)
        states = {name: state for name, state in found.items() if isinstance(state, PartitionState)}
        refs = {self._ref(name.topic, state, name.partition): name for name, state in states.items()}
        return found, await self._claim_refs(refs, self._met(states))

    def _ref(self, topic: str, state: PartitionState, partition: int) -> PartitionRef:
        return PartitionRef(self._source.cluster_id, topic, state.topic_id, partition)

    def _met(self, states: Mapping[TopicPartition, PartitionState]) -> list[PartitionRef]:
        """All partitions of the topics, ours or not: nothing is passed over of one that comes later."""
        if self._settings.start == "earliest":
            return []
        refs = dict.fromkeys(self._ref(name.topic, state, name.partition) for name, state in states.items())
        for topic, state in {name.topic: state for name, state in states.items()}.items():
            refs |= dict.fromkeys(self._ref(topic, state, number) for number in range(state.partitions))
        return list(refs)

    async def _claim_refs(
        self, refs: Mapping[PartitionRef, TopicPartition], met: Sequence[PartitionRef]
    ) -> dict[TopicPartition, Claim]:
        try:
            claimed = await self._sink.claim(list(refs), met)
        except TopicRecreated as error:
            rest = [ref for ref in refs if ref not in error.refs]
            accepted = [ref for ref in error.refs if self._settings.accepts_loss(refs[ref])]
            for ref in error.refs:
                if ref not in accepted:
                    self._refuse(
                        refs[ref],
                        "the topic was deleted and made again; what it held and was not ingested is lost. "
                        f"To go on with the new one {ACCEPT}",
                    )
            claimed = {**(await self._sink.claim(rest, met) if rest else {})}
            if accepted:
                log.warning(
                    "loss_accepted", partitions=names_of(refs[ref] for ref in accepted), reason="recreated"
                )
                for ref in accepted:
                    await self._sink.adopt(ref)
                claimed |= await self._sink.claim(accepted)
        return {refs[ref]: claim for ref, claim in claimed.items()}

    async def look_again(self, found: Inspected, claims: Claims) -> Inspected:
        """Until the claim the owner before us went on, perhaps beyond the end that we were told; from now on
        nobody else moves the position. What is another topic's meanwhile is left out.
        """
        beyond = [name for name, claim in claims.items() if _ends_before(found[name], claim)]
        if not beyond:
            return found
        now = await self._source.inspect(beyond)
        kept = {name: state for name, state in found.items() if name not in beyond}
        return kept | {
            name: state
            for name, state in now.items()
            if isinstance(state, SourceUnavailable) or state.topic_id == claims[name].ref.topic_id
        }


def _ends_before(state: PartitionState | SourceUnavailable, claim: Claim) -> bool:
    return isinstance(state, PartitionState) and (claim.position or 0) > state.high


def name_of(partition: TopicPartition) -> str:
    """For people."""
    return f"{partition.topic}:{partition.partition}"


def names_of(partitions: Iterable[TopicPartition]) -> str:
    """For people."""
    return ", ".join(map(name_of, partitions))
