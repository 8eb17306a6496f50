"""A story's events in words: one line each, and further lines for the members of a list. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from worker.story import StoryEvent

Facts = Mapping[str, JsonValue]


def lines(events: Sequence[StoryEvent]) -> Iterator[str]:
    """The whole story, aligned, with times after its first event."""
    began_ms = events[0].at_ms if events else 0
    for event in events:
        first, *more = said(event)
        yield f"{(event.at_ms - began_ms) / 1000:>10.3f} s  {event.step:<8}  {shown(first)}"
        for line in more:
            yield f"{'':>22}  {shown(line)}"


def shown(text: str) -> str:
    """What a terminal may be told: names come from outside."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def said(event: StoryEvent) -> list[str]:
    """One event. What a newer version has noted is told as it is."""
    words = _WORDS.get(event.kind) or _WORDS.get((event.step, ""))
    return words(event.what, event.facts) if words else [event.what, *_pairs(event.facts)]


def _pairs(facts: Facts) -> list[str]:
    return [f"{name}: {value}" for name, value in facts.items()]


def _s(ms: JsonValue) -> str:
    return f"{ms / 1000:.3g} s" if isinstance(ms, int | float) and ms >= 1000 else f"{ms or 0} ms"


def _count(number: JsonValue, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _usd(amount: JsonValue) -> str:
    text = str(amount)
    return f"${text.rstrip('0').rstrip('.') if '.' in text else text}"


def _listed(fact: JsonValue) -> list[str]:
    """The members of a list of names."""
    return [_member(one) for one in fact] if isinstance(fact, list) else []


def _member(one: JsonValue) -> str:
    if isinstance(one, dict):
        return f"and {one['more']} more" if "more" in one else ", ".join(f"{n} {v}" for n, v in one.items())
    return str(one)


def _rows(fact: JsonValue) -> list[dict[str, JsonValue]]:
    return [one for one in fact if isinstance(one, dict)] if isinstance(fact, list) else []


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _put(_what: str, facts: Facts) -> list[str]:
    ahead = facts.get("ahead")
    return [
        _joined(
            f"put into {facts.get('lane', 'its lane')} by {facts.get('tenant')}",
            f"task {facts['task']}" if facts.get("task") else None,
            f"priority {facts['priority']}" if "priority" in facts else None,
            f"{_count(ahead, 'other job', 'other jobs')} of its tenant waited" if ahead else None,
            f"run {facts['run']}" if facts.get("run") else None,
            f"a line of batch {facts['batch']}" if facts.get("batch") else None,
        )
    ]


def _taken(_what: str, facts: Facts) -> list[str]:
    times = f", {facts['times']} times alike, the last one is told" if "times" in facts else ""
    retry = f", retry {facts['retries']}" if facts.get("retries") else ""
    stop = f", only to be ended: {facts['stop']}" if facts.get("stop") else ""
    wait = f", after a wait of {_s(facts.get('waited_ms'))}"
    return [f"taken, delivery {facts.get('delivery', 1)}{retry}{times}{stop}{wait}", *_waited(facts)]


def _waited(facts: Facts) -> list[str]:
    """What it waited for. What no limit explains was its turn, or a worker's free slot."""
    told = [f"held up by {row.get('by')} for {_s(row.get('ms'))}" for row in _rows(facts.get("held_up"))]
    delayed = facts.get("delayed_ms")
    if delayed:
        told.insert(0, f"not due for {_s(delayed)} of it")
    waited, others, ahead = facts.get("waited_ms"), facts.get("other_tenants"), facts.get("ahead")
    if not told and isinstance(waited, int) and waited >= 100:
        before = _joined(
            f"{_count(ahead, 'job', 'jobs')} of its tenant before it" if ahead else None,
            f"{_count(others, 'other tenant', 'other tenants')} in turn" if others else None,
        )
        told.append(f"for its turn and a worker's free slot{': ' if before else ''}{before}")
    return told


def _lost(_what: str, facts: Facts) -> list[str]:
    who = f" {facts['worker']}" if facts.get("worker") else ""
    return [f"delivery {facts.get('delivery')} was lost with its worker{who}, and came back to its lane"]


def _back(what: str, facts: Facts) -> list[str]:
    how = "handed back to its lane" if what == "handed_back" else "goes back to its lane, as a retry"
    delay = f", due again in {_s(facts['delay_ms'])}" if facts.get("delay_ms") else ""
    return [f"{how}{delay}: {facts.get('why') or 'no reason is noted'}"]


def _policy(what: str, facts: Facts) -> list[str]:
    if what == "refused":
        return [f"refused: {facts.get('code')}"]
    left = f"{_s(facts['deadline_ms'])} left" if "deadline_ms" in facts else None
    cost = f"{_usd(facts['max_cost_usd'])} at most" if "max_cost_usd" in facts else None
    longest = facts.get("max_output_tokens")
    tokens = f"an answer of {longest} tokens at most" if longest else None
    whole = _joined(
        f"tier {facts.get('tier')}: {', '.join(_listed(facts.get('aliases')))}", tokens, cost, left
    )
    replaced = [f"replaced {one}" for one in _listed(facts.get("replaced"))]
    return [whole, *(f"denied {one}" for one in _listed(facts.get("denied"))), *replaced]


def _safety(what: str, facts: Facts) -> list[str]:
    texts, findings = facts.get("texts"), _listed(facts.get("findings"))
    if not texts:
        return ["no document or tool result to scan"]
    verdict = "blocked" if what == "blocked" else None if findings else "nothing found"
    return [_joined(f"{_count(texts, 'text', 'texts')} scanned", verdict), *findings]


def _cache(what: str, facts: Facts) -> list[str]:
    if what == "hit":
        return [f"answered from the tenant's cache, {_usd(facts.get('saved_usd', 0))} saved"]
    return ["not in the tenant's cache" if what == "miss" else f"not asked: {facts.get('why')}"]


def _plan(_what: str, facts: Facts) -> list[str]:
    calls = _rows(facts.get("calls"))
    count = len([call for call in calls if "more" not in call])
    return [
        f"{_count(count, 'deployment', 'deployments')} to try in order"
        if calls
        else "no deployment can take it",
        *(_call(number, call) for number, call in enumerate(calls, 1)),
        *_left_out(facts),
    ]


def _call(number: int, call: Mapping[str, JsonValue]) -> str:
    if "more" in call:
        return _member(dict(call))
    speed = f", {_s(call['predicted_ms'])} predicted" if call.get("predicted_ms") else ""
    own = ", with the tenant's own key" if call.get("own_key") else ""
    most = f"{_usd(call.get('highest_usd'))} at most"
    return f"{number}. {call.get('deployment')} ({call.get('alias')}), {most}{own}{speed}"


def _left_out(facts: Facts) -> list[str]:
    return [
        _member(row) if "more" in row else f"left out: {row.get('deployment')}: {row.get('why')}"
        for row in _rows(facts.get("left_out"))
    ]


def _health(_what: str, facts: Facts) -> list[str]:
    kept = [f"tried all the same, as the last one: {name}" for name in _listed(facts.get("despite"))]
    return ["deployments that take no call now", *_left_out(facts), *kept]


def _held(_what: str, facts: Facts) -> list[str]:
    windows = _listed(facts.get("windows"))
    return [
        f"attempt {facts.get('attempt')} holds {_usd(facts.get('worst_usd'))}"
        + (", a share of what its batch holds" if facts.get("batch") else ""),
        *(f"in {one}" for one in windows),
    ]


def _refused(_what: str, facts: Facts) -> list[str]:
    worst = _usd(facts.get("worst_usd"))
    whole = f"budget_exceeded ({facts.get('reason')}) by {facts.get('window')}: the call may cost {worst}"
    amounts = [
        f"{name} {_usd(facts[f'{name}_usd'])}"
        for name in ("limit", "spent", "held")
        if f"{name}_usd" in facts
    ]
    return [whole, *([", ".join(amounts)] if amounts else [])]


def _journalled(_what: str, facts: Facts) -> list[str]:
    re_ask = ", told what was wrong" if facts.get("re_ask") else ""
    worst = f"{_usd(facts.get('worst_usd'))} at most"
    limit = f"{_s(facts['timeout_ms'])} for it" if "timeout_ms" in facts else None
    whole = f"attempt {facts.get('attempt')} of {facts.get('deployment')} is journalled{re_ask}"
    return [_joined(whole, worst, limit), f"id {facts.get('id')}"]


def _ended(what: str, facts: Facts) -> list[str]:
    verb = {"settled": "answered", "failed": "failed", "uncertain": "is uncertain", "void": "was never sent"}
    error = f" ({facts['error']})" if facts.get("error") else ""
    late = {"lost": ": its worker was lost", "noted": " now, settled later"}.get(str(facts.get("since")), "")
    tokens = f"{facts.get('input_tokens', 0)} + {facts.get('output_tokens', 0)} tokens"
    times = _joined(
        f"called after {_s(facts['called_ms'])}" if "called_ms" in facts else None,
        f"first byte {_s(facts['first_byte_ms'])} later" if "first_byte_ms" in facts else None,
        f"{_s(facts['latency_ms'])} in all" if "latency_ms" in facts else None,
    )
    cost = "" if what == "void" else f", {_usd(facts.get('cost_usd'))}"
    cost += f" ({_usd(facts['list_usd'])} at list, by the tenant's own key)" if "list_usd" in facts else ""
    used = f", {tokens}" if "output_tokens" in facts or "input_tokens" in facts else ""
    whole = f"attempt {facts.get('attempt')} of {facts.get('deployment')} {verb.get(what, what)}"
    outrun = (
        f"closed after {_s(facts['silent_ms'])} of silence: another spoke first"
        if "silent_ms" in facts
        else ""
    )
    return [f"{whole}{error}{late}{cost}{used}", *filter(None, (times, outrun))]


def _unresolved(_what: str, facts: Facts) -> list[str]:
    return [
        f"{_count(facts.get('attempts'), 'attempt', 'attempts')} of earlier deliveries: nobody knows the outcome"
    ]


def _follows(what: str, facts: Facts) -> list[str]:
    moves = {
        "next": f"goes on with {facts.get('next')}",
        "here": "the same deployment once more",
        "hand_back": "waits in its lane",
        "stop": "no other attempt",
        "too_dear": f"{facts.get('deployment')} is not tried: {_usd(facts.get('highest_usd'))} is more than is left",
        "no_call_taken": "not called",
        "left_out": f"{facts.get('deployment')} is not tried",
        "hedged": f"{facts.get('deployment')} is asked beside it, after {_s(facts.get('silent_ms') or 0)} of silence",
    }
    why = f": {facts['why']}" if facts.get("why") else ""
    delay = f", in {_s(facts['delay_ms'])}" if facts.get("delay_ms") else ""
    pays = ", paid from the retry budget" if facts.get("pays") else ""
    wrong = [f"what was wrong: {facts['wrong']}"] if facts.get("wrong") else []
    return [f"{moves.get(what, what)}{delay}{why}{pays}", *wrong]


def _run(what: str, facts: Facts) -> list[str]:
    if what == "refused":
        return [
            _joined(f"refused: {facts.get('code')}", str(facts["reason"]) if facts.get("reason") else None)
        ]
    return [f"counted into {', '.join(_listed(facts.get('runs')))}"]


def _retries(what: str, facts: Facts) -> list[str]:
    return [
        f"{facts.get('why')}: {'paid from' if what == 'paid' else 'refused by'} the tenant's retry budget"
    ]


def _now(what: str, facts: Facts) -> list[str]:
    if what == "running":
        return [f"runs in worker {facts.get('worker')}"]
    if what == "not_known":
        return [f"where it is now is not known: {facts.get('why')}"]
    told = [f"{what} for {_s(facts.get('waited_ms'))}"]
    if facts.get("stop"):
        told.append(f"it will not be called: {facts['stop']}")
    if "due_in_ms" in facts:
        told.append(f"due in {_s(facts['due_in_ms'])}")
    if "before_it" in facts:
        told.append(f"{facts['before_it']} of the {facts.get('queue')} jobs in its queue are before it")
    if facts.get("held_up_by"):
        more = f" for {_s(facts['held_up_ms'])} more" if facts.get("held_up_ms") is not None else ""
        told.append(f"{facts.get('tenant')} is held up by {facts['held_up_by']}{more}")
    elif facts.get("tenants_before") is not None:
        told.append(
            f"{facts['tenants_before']} tenants are before its tenant; it waits for a worker's free slot"
        )
    told.append(_slots(facts))
    return [
        *told,
        *(
            f"so far held up by {row.get('by')} for {_s(row.get('ms'))}"
            for row in _rows(facts.get("held_up"))
        ),
    ]


def _slots(facts: Facts) -> str:
    of = f" of {facts['slots']}" if facts.get("slots") is not None else ""
    return f"{facts.get('running', 0)}{of} jobs of {facts.get('tenant')} run"


def _result(what: str, facts: Facts) -> list[str]:
    code = f" ({facts['code']})" if facts.get("code") else ""
    cost = f", {_usd(facts['cost_usd'])}" if "cost_usd" in facts else ""
    saved = f", {_usd(facts['saved_usd'])} saved" if facts.get("saved_usd") else ""
    cache = f", from the cache ({facts['cache']})" if facts.get("cache") else ""
    by = f" by {facts['deployment']}" if facts.get("deployment") else ""
    took = f", {_s(facts['latency_ms'])} in the worker" if "latency_ms" in facts else ""
    kept = [
        *([str(facts["message"])] if facts.get("message") else []),
        *(
            [f"its content is kept until {facts['content_kept_until']}"]
            if "content_kept_until" in facts
            else []
        ),
        *(
            [f"its content was forgotten at {facts['content_forgotten']}"]
            if "content_forgotten" in facts
            else []
        ),
    ]
    return [f"{what}{code}{by}{cost}{saved}{cache}{took}", *kept]


_WORDS: dict[tuple[str, str], Callable[[str, Facts], list[str]]] = {
    ("lane", "put"): _put,
    ("lane", "taken"): _taken,
    ("lane", "lost"): _lost,
    ("lane", "handed_back"): _back,
    ("lane", "retried_later"): _back,
    ("policy", ""): _policy,
    ("safety", ""): _safety,
    ("form", "asked"): lambda _what, facts: [
        f"the answer must have: {', '.join(_listed(facts.get('forms')))}"
    ],
    ("cache", ""): _cache,
    ("plan", ""): _plan,
    ("health", ""): _health,
    ("budget", "held"): _held,
    ("budget", "refused"): _refused,
    ("attempt", "journalled"): _journalled,
    ("attempt", "unresolved"): _unresolved,
    ("attempt", ""): _ended,
    ("fallback", ""): _follows,
    ("run", ""): _run,
    ("retries", ""): _retries,
    ("control", ""): lambda _what, facts: [f"answered by the fleet itself: {facts.get('task')}"],
    ("now", ""): _now,
    ("result", ""): _result,
}
