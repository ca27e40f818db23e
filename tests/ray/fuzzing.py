"""Requests made from a server's OpenAPI document, half of them broken on purpose."""

import io
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from schemathesis.transport.serialization import Binary

CHECKS = [not_a_server_error, content_type_conformance, status_code_conformance]


def fuzz(url: str, key: str, cases: int) -> Counter[int]:
    """Answers by status, each checked against the document; about as many as asked for."""
    statuses: Counter[int] = Counter()
    schemathesis.openapi.format("binary", st.one_of(st.just(picture()), st.binary(max_size=200)).map(Binary))
    operations = [each.ok() for each in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    operations = [each for each in operations if "/v1/" in each.path]
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(0)
            @settings(
                max_examples=-(-cases // len(operations) // 2), deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                answer = case.call(headers={"Authorization": f"Bearer {key}"}, timeout=60)
                statuses[answer.status_code] += 1
                case.validate_response(answer, checks=CHECKS)

            try:
                ask()
            except Unsatisfiable:  # an operation without anything that could be broken
                continue
    return statuses


def picture() -> bytes:
    """A file that is what a route asks for, so that what stands beside it is looked at."""
    sink = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(sink, "PNG")
    return sink.getvalue()
