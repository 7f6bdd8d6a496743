"""Results as JUnit XML, which every CI shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from recmesh.offline.model_checks.judged import Judged
from recmesh.offline.model_checks.result import Status

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(said: str) -> str:
    return NOT_XML.sub("?", said)


def junit_xml(model: str, found: Sequence[Judged]) -> str:
    """One suite named by the model, one case a check; not checked is skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name=_text(f"recmesh model check {model}"),
        tests=str(len(found)),
        failures=str(sum(one.result.status is Status.FAILED for one in found)),
        skipped=str(sum(one.result.status is Status.NOT_CHECKED for one in found)),
        errors="0",
        time=f"{sum(one.took_s for one in found):.3f}",
    )
    for one in found:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_text(f"recmesh.{model}"),
            name=one.check.id,
            time=f"{one.took_s:.3f}",
        )
        result = one.result
        if result.status is Status.FAILED:
            failure = ElementTree.SubElement(
                case, "failure", message=_text(result.said), type=one.check.id
            )
            failure.text = _text(f"{result.number}\n{result.fix}")
        elif result.status is Status.NOT_CHECKED:
            ElementTree.SubElement(case, "skipped", message=_text(result.said))
        else:
            ElementTree.SubElement(case, "system-out").text = _text(
                f"{result.number}\n{result.said}"
            )
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
